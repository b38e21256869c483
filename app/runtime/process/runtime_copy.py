"""Copies the runtime for replicas, so that the gateway's own packages are never in a model's reach."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from app.runtime.interpreter import PACKAGE
from app.runtime.packages.bytecode import compile_folder

COMPILE_SECONDS = 60.0


def runtime_copy(run_folder: Path) -> Path:
    """Return `<run_folder>/runtime-<content hash>`, the folder that holds `model_container/`; make it if it is missing.

    It is complete or absent: it is filled under a name of this call's own and renamed, so that neither another thread
    nor another gateway can be filling the same one. Replicas of an older PRISM keep their own.
    """
    copy = run_folder / f"runtime-{_content_hash()}"
    if copy.is_dir():
        return copy
    unfinished = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=run_folder))
    try:
        shutil.copytree(PACKAGE, unfinished / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        unfinished.rename(copy)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not copy.is_dir():  # not merely another thread or gateway that was faster
            raise
    return copy


def compile_for(python: str, copy: Path, cache: Path) -> None:
    """Compile the copy for one Python, once: a replica may not write bytecode. A failure only makes starts slower.

    cache: of bytecode, for copies elsewhere.
    """
    interpreter = hashlib.sha256(os.fsencode(os.path.realpath(python))).hexdigest()[:16]
    done = copy / f".compiled-{interpreter}"
    if done.exists():
        return
    if compile_folder(python, copy, cache, COMPILE_SECONDS):
        done.touch()


def _content_hash() -> str:
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(PACKAGE)}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
