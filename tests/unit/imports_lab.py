"""What the modules of the project import."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from app.artifact.python_source import syntax_tree

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "prism", "model_container")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the project by its dotted name, parsed."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = syntax_tree(path.read_text(), str(path))
    return found


def within(module: str, packages: tuple[str, ...] | set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)
