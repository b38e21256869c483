"""Installs what a lock lists into a plain folder, for a container: another system, maybe another Python."""

from __future__ import annotations

import asyncio
import platform as machine
import shutil
import sys
from pathlib import Path

from app.core.environment import Lock
from app.errors import BuildFailed
from app.runtime import torch_backend
from app.runtime.resolver import uv_platform
from app.runtime.target import Log
from app.runtime.uv import run_uv


async def install(lock: Lock, folder: Path, log: Log, timeout_seconds: float) -> None:
    """The packages of `lock` in `folder`, as site-packages, hard-linked to uv's cache where it is on the same disk.

    Raises BuildFailed with the installer's telling lines. Programs that packages bring are left out: their first line
    names a Python of this machine.
    """
    # Wheels only: building a source distribution would run its author's code here, outside any wall.
    arguments = ["pip", "sync", "--target", str(folder), "--only-binary", ":all:", "--python", sys.executable]
    arguments += ["--python-version", lock.python, "--python-platform", uv_platform("linux", machine.machine())]
    arguments += [*torch_backend.to_install(lock), "-"]
    await run_uv(arguments, log=log, timeout_seconds=timeout_seconds, error=BuildFailed, stdin=lock.text)
    await asyncio.to_thread(shutil.rmtree, folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
