"""Finds the Python files beside a model file that it needs. Others, such as the script that trained it, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from app.artifact.formats.torch import MODULE_OF_WEIGHTS
from app.artifact.python_source import imported_modules, parsed
from app.core.inspection import Inspection

FACTORIES = frozenset({"build_model", "make_model", "create_model"})


def needed_code(folder: Path, inspection: Inspection, python_version: str = "") -> tuple[str, ...]:
    """Return the files and packages at the top of the folder, such as `steps.py`, that loading the model file imports.

    They are the modules that its pickle names, those that define what it takes from `__main__`, and what these import.
    Raises BadInput for source that cannot be parsed.
    """
    modules = {path.stem: path for path in folder.glob("*.py")}
    modules |= {path.name: path for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    pending = {name.partition(":")[0].partition(".")[0] for name in inspection.globals} & modules.keys()
    missing = {name.rpartition(".")[2] for name in inspection.missing_code}
    is_of_weights = MODULE_OF_WEIGHTS in inspection.missing_code
    for name, path in modules.items() if missing else ():
        if path.is_file() and not missing.isdisjoint(_defined(path, python_version, is_of_weights)):
            pending.add(name)
    needed: set[str] = set()
    while pending:
        name = pending.pop()
        needed.add(name)
        pending |= (set(_imports(modules[name], python_version)) & modules.keys()) - needed
    return tuple(sorted(modules[name].name for name in needed))


def _imports(path: Path, python_version: str) -> Iterator[str]:
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        yield from imported_modules(file, python_version)


def _defined(path: Path, python_version: str, is_of_weights: bool) -> Iterator[str]:
    """Yield the names that a module defines at its top. One that makes a PyTorch module counts as MODULE_OF_WEIGHTS."""
    tree = parsed(path, python_version)
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if is_of_weights and (node.name in FACTORIES or any(base.endswith("Module") for base in bases)):
                yield MODULE_OF_WEIGHTS.rpartition(".")[2]
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
