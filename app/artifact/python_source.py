"""Reads Python source without running it: which class answers, and what it imports."""

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
    """The class that is named Model, or else the only one with `load` and `predict`; None if there is none.

    A class may inherit its methods, which is not followed: what counts is what is written in it.
    python_version: for which it is written. Raises BadInput for source that cannot be parsed.
    """
    tree = parsed(path, python_version)
    classes = [_class(node) for node in tree.body if isinstance(node, ast.ClassDef)] if tree else []
    answering = [one for one in classes if "predict" in one.methods]
    for one in answering:
        if one.name == "Model":
            return one
    loading = [one for one in answering if one.loads]
    return loading[0] if len(loading) == 1 else None


def pins_of_imports(folder: Path, python_version: str = "") -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """A pin for each known distribution that the folder's source imports; and the modules that are of none of them,
    but for its own."""
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
    """What Python finds of its own in a folder; nothing where there is none."""
    if not folder.is_dir():
        return set()
    return {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}


def parsed(path: Path, python_version: str) -> ast.Module | None:
    """None for source of a newer Python than this one's, which may have words that this one does not know."""
    try:
        return syntax_tree(read_text(path, CODE_LIMIT_BYTES), path.name)
    except SyntaxError as error:
        if _is_newer(python_version):
            return None
        raise BadInput(
            f"{path.name} is not Python: {error.msg} (line {error.lineno}).", hint="Correct it there.", field="file"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"{path.name} is not Python that can be read.", field="file") from error


def syntax_tree(source: str, filename: str) -> ast.Module:
    """As `ast.parse`, with the collection of garbage put off.

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


def _is_newer(python_version: str) -> bool:
    numbers = [int(part) for part in python_version.split(".")[:2] if part.isdigit()]
    return tuple(numbers) > sys.version_info[:2]


def _class(node: ast.ClassDef) -> Answering:
    defined = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return Answering(node.name, tuple(name for name in METHODS if name in defined))


def imported_modules(path: Path, python_version: str) -> Iterator[str]:
    """Top names of all that is imported, within functions too; relative imports are the folder's own."""
    tree = parsed(path, python_version)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
