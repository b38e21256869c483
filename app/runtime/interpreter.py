"""Starts a Python isolated, and without `site`, which runs code that packages bring.

Always the base interpreter, whose folder no package of a model is ever installed into. It sees the standard library
and the runtime; a model's packages are added to its search path inside the sandbox (model_container/environment.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "model_container"
WITHOUT_SITE = ("-I", "-S", "-B")


def isolated(python: str, program: Path, *arguments: str) -> list[str]:
    """Return the command that runs `program` isolated and without `site`. python: a base interpreter."""
    return [python, *WITHOUT_SITE, str(program), *arguments]


def own_interpreter() -> str:
    """Return the gateway's base interpreter: what is made with it must outlive the virtual environment of PRISM."""
    return getattr(sys, "_base_executable", None) or sys.executable
