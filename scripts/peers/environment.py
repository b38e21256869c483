"""A virtual environment for each peer, made by uv from the folder's requirements.txt and kept for the next run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from app.runtime.packages.index import machine_index
from scripts.peers.peer import FOLDER

PYTHON = "3.11"  # of all peers; the newest that every one of them supports, the tritonserver binary included


class CannotInstall(Exception):
    """A peer's packages cannot be installed on this machine; the text is the installer's last words."""


def binaries(name: str, cache: Path) -> Path:
    """The peer's folder of programs. A peer without requirements.txt (PRISM, the echo) runs in this interpreter's own.

    Raises CannotInstall.
    """
    requirements = FOLDER / name / "requirements.txt"
    if not requirements.exists():
        return Path(sys.executable).parent
    # The key changes with the pins, so that an old environment is never measured under new ones.
    key = hashlib.sha256(requirements.read_bytes() + PYTHON.encode()).hexdigest()[:10]
    folder = cache / f"{name}-{key}"
    if not (folder / ".complete").exists():
        _create(folder, requirements)
    return folder / "bin"


def _create(folder: Path, requirements: Path) -> None:
    print(f"installing {requirements.parent.name} into {folder}", file=sys.stderr, flush=True)
    _uv("venv", "--clear", "--quiet", "--python", PYTHON, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(requirements))
    (folder / ".complete").touch()


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        raise CannotInstall("uv is not installed (./scripts/setup brings it)")
    index = machine_index()
    environ = {**os.environ, **index.uv_environment()}
    done = subprocess.run([program, *arguments], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotInstall(index.redact(done.stderr.strip()[-600:]))
