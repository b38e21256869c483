"""Compiles packages ahead of their first import: a replica may not write beside them, and would compile at each start."""

from __future__ import annotations

import subprocess
from pathlib import Path

COMPILE = ("-I", "-m", "compileall", "-qq", "-j", "0", "-x", "/tests/")
"""Arguments of a Python. Libraries bring their own tests, up to half of their code, which no model imports."""


def compile_folder(python: Path, folder: Path, timeout_seconds: float) -> bool:
    """Whether all could be compiled; what could not is only slower to import. Blocks; raises OSError."""
    command = [str(python), *COMPILE, str(folder)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
