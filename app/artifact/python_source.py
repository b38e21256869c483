"""Reads Python source without running it, for the class that answers and for what it imports."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from app.artifact.distributions import distribution_of, is_unknown
from app.artifact.formats.yaml import read_text
from app.core.contents import CODE_LIMIT_BYTES
from app.core.inspection import Pin
from app.errors import BadInput

MODEL_FILE: Final = "model.py"
METHODS: Final = ("load", "preprocess", "predict", "postprocess")


class Answering(Struct, frozen=True):
    """A class of model.py that could be the model, and which of METHODS it defines."""

    name: str
    methods: tuple[str, ...]

    @property
    def loads(self) -> bool:
        return "load" in self.methods


def answering_class(path: Path, python_version: str = "") -> Answering | None:
    """Return the class named Model, or else the only one with `load` and `predict`; None if there is none.

    Only methods written in the class itself count; inherited ones are not looked for.
    python_version: the one that it is written for. Raises BadInput for source that cannot be parsed.
    """
    tree = parsed(path, python_version)
    classes = [_class(node) for node in tree.body if isinstance(node, ast.ClassDef)] if tree else []
    answering = [candidate for candidate in classes if "predict" in candidate.methods]
    for candidate in answering:
        if candidate.name == "Model":
            return candidate
    loading = [candidate for candidate in answering if candidate.loads]
    return loading[0] if len(loading) == 1 else None


def pins_of_imports(folder: Path, python_version: str = "") -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """Return a pin for each known distribution that the folder's source imports, and the modules of unknown ones.

    The folder's own modules are in neither.
    """
    own = own_modules(folder)
    pins: dict[str, Pin] = {}
    unknown: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        for module in sorted(set(imported_modules(path, python_version)) - own):
            if distribution := distribution_of(module):
                evidence = f"{path.relative_to(folder)} imports `{module}`"
                pins.setdefault(distribution, Pin(distribution, "", evidence))
            elif is_unknown(module):
                unknown.add(module)
    return tuple(pins.values()), tuple(sorted(unknown))


def own_modules(folder: Path) -> set[str]:
    """Return the names of the modules and packages in a folder; none where the folder is missing."""
    if not folder.is_dir():
        return set()
    return {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}


def parsed(path: Path, python_version: str) -> ast.Module | None:
    """Parse a file. None if it cannot be parsed and is for a newer Python, whose syntax this one may not know.

    Raises BadInput for other source that cannot be parsed.
    """
    try:
        return syntax_tree(read_text(path, CODE_LIMIT_BYTES), path.name)
    except SyntaxError as error:
        if is_newer(python_version):
            return None
        raise BadInput(
            f"{path.name} is not Python: {error.msg} (line {error.lineno}).", hint="Correct that file.", field="file"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"{path.name} cannot be read as Python.", field="file") from error


def syntax_tree(source: str, filename: str) -> ast.Module:
    """Parse source as `ast.parse` does, with garbage collection put off.

    In Python 3.11 a collection in the middle of it breaks it if what is collected parses too, as the logging of a
    forgotten task's traceback does: "AST constructor recursion depth mismatch" (python/cpython#106905).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source, filename)
    finally:
        if was_enabled:
            gc.enable()


def is_newer(python_version: str) -> bool:
    """Return whether a Python version such as "3.14" is newer than this one's, whose parser may not know its syntax."""
    numbers = [int(part) for part in python_version.split(".")[:2] if part.isdigit()]
    return tuple(numbers) > sys.version_info[:2]


def _class(node: ast.ClassDef) -> Answering:
    defined = {method.name for method in node.body if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)}
    return Answering(node.name, tuple(name for name in METHODS if name in defined))


def imported_modules(path: Path, python_version: str) -> Iterator[str]:
    """Yield the top names of all imports, also within functions. Relative imports, the folder's own, are left out."""
    tree = parsed(path, python_version)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
