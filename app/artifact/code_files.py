"""Finds the Python files beside a model file that it needs. Others, such as the script that trained it, never run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from app.artifact.owner_code import wanted_names
from app.artifact.python_source import imported_modules, parsed
from app.core.inspection import Inspection


def needed_code(folder: Path, inspection: Inspection, python_version: str = "") -> tuple[str, ...]:
    """Return the files and packages at the top of the folder, such as `steps.py`, that loading the model file imports.

    They are the modules that its pickle names, those that define what it takes from `__main__`, and what these import.
    Raises BadInput for source that cannot be parsed.
    """
    modules = {path.stem: path for path in folder.glob("*.py")}
    modules |= {path.name: path for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    pending = {name.partition(":")[0].partition(".")[0] for name in inspection.globals} & modules.keys()
    for name, path in modules.items() if inspection.missing_code else ():
        if path.is_file() and wanted_names(parsed(path, python_version), inspection.missing_code):
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
