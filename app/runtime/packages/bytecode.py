"""Compiles packages ahead of their first import: a replica may not write beside them, and would compile at each start."""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.core.child_environment import child_environment
from app.runtime.interpreter import PACKAGE, isolated


def compile_folder(python: str, folder: Path, timeout_seconds: float) -> bool:
    """Compile the packages in a folder and return whether all could be; what could not is only slower to import.

    The compiler runs in a sandbox of its own, where it may write to nothing but the folder.
    Blocks. Raises OSError.
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
