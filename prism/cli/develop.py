"""`prism lint` and `prism format`: ruff and black, as the project's own checks run them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from app.errors import NotFound
from prism.cli.session import ERROR, Json, session
from prism.cli.user_environment import user_environment

Folder = Annotated[Path, typer.Argument(metavar="[PATH]", exists=True, help="A file or folder.", show_default=False)]


def lint(path: Folder = Path("."), as_json: Json = False) -> None:
    """Check Python code with ruff. Exit code 1: it found something."""
    with session(as_json) as here:
        code = _run("ruff", "check", *(["--output-format", "json"] if as_json else []), str(path))
        if code == 1:
            here.output.next_step(f"prism format {path}   fixes layout and imports")
        if code:
            raise typer.Exit(ERROR)


def format_code(path: Folder = Path("."), as_json: Json = False) -> None:
    """Lay out Python code with black and sort its imports with ruff."""
    with session(as_json) as here:
        quiet = ["--quiet"] if as_json else []
        code = _run("black", *quiet, str(path)) or _run("ruff", "check", "--select", "I", "--fix", *quiet, str(path))
        if as_json:
            here.output.data({"formatted": code == 0, "path": str(path)}, "")
        if code:
            raise typer.Exit(ERROR)


def _run(tool: str, *arguments: str) -> int:
    """Run a tool and return its exit code. Raises NotFound if it is not installed."""
    if find_spec(tool) is None:
        raise NotFound(f"{tool} is not installed.", hint=f"Install it: {sys.executable} -m pip install ruff black.")
    command = [sys.executable, "-m", tool, *arguments]
    return subprocess.run(command, env=user_environment(), check=False).returncode
