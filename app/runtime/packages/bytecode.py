"""Compiles packages ahead of their first import: a replica may not write beside them, and would compile at each start."""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.core.child_environment import child_environment
from app.runtime.interpreter import PACKAGE, isolated


def compile_folder(python: str, folder: Path, timeout_seconds: float) -> bool:
    """Whether all could be compiled; what could not is only slower to import. Blocks; raises OSError.

    Behind walls of its own, which leave it nothing but the folder to write to.
    """
    try:
        done = subprocess.run(
            isolated(python, PACKAGE / "precompile.py", str(folder)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            env=child_environment(),
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
