"""Virtual environments of the process target: one for each lock hash, built once, by whoever comes first.

Built in its final place, since a virtual environment holds absolute paths. A marker written last says that it is
complete; without the marker it is a torso of a crash and is built anew.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.core.environment import Lock
from app.errors import BuildFailed
from app.runtime import torch_backend
from app.runtime.bytecode import compile_folder
from app.runtime.target import Log
from app.runtime.uv import find_interpreters, run_uv

MARKER = ".complete"
LOCK_POLL_SECONDS = 0.1


class VirtualEnvironments:
    """root: `<root>/<lock hash>/` is an environment, `<root>/<lock hash>.txt` its lock."""

    def __init__(self, root: Path, build_timeout_seconds: float) -> None:
        self.root = root
        self.build_timeout_seconds = build_timeout_seconds

    def path(self, lock: Lock) -> Path:
        return self.root / lock.hash

    def is_built(self, lock: Lock) -> bool:
        """Also false when the Python it was made from has been uninstalled."""
        return (self.path(lock) / MARKER).is_file() and (self.path(lock) / "bin" / "python").exists()

    async def build(self, lock: Lock, log: Log) -> None:
        """Returns at once if it is built; waits for another builder, also of another process. Raises BuildFailed."""
        if self.is_built(lock):
            return
        async with self._alone(lock):
            if not self.is_built(lock):
                await self._build(lock, log)

    async def remove(self, lock: Lock) -> None:
        if not self.root.is_dir():
            return
        async with self._alone(lock):
            await asyncio.to_thread(shutil.rmtree, self.path(lock), ignore_errors=True)
            self._lock_text(lock).unlink(missing_ok=True)

    def _lock_text(self, lock: Lock) -> Path:
        return self.root / f"{lock.hash}.txt"

    async def _build(self, lock: Lock, log: Log) -> None:
        interpreters = await find_interpreters()
        if lock.python not in interpreters:
            raise BuildFailed(
                f"The model needs Python {lock.python}, and this machine has {', '.join(interpreters) or 'none'}.",
                hint=f"Install Python {lock.python}, or give the model another `python_version`.",
            )
        place = self.path(lock)
        python = place / "bin" / "python"
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        self._lock_text(lock).write_text(lock.text)
        started = time.monotonic()
        await self._run_uv(["venv", "--no-project", "--python", interpreters[lock.python], str(place)], log)
        # Wheels only: building a source distribution would run its author's code here, outside any wall.
        install = ["pip", "sync", "--python", str(python), "--only-binary", ":all:", *torch_backend.to_install(lock)]
        await self._run_uv([*install, str(self._lock_text(lock))], log)
        await asyncio.to_thread(compile_folder, python, place / "lib", self.build_timeout_seconds)
        (place / MARKER).write_text(f"{lock.hash}\n")
        log(f"Environment {lock.hash} built in {time.monotonic() - started:.1f} s.")

    async def _run_uv(self, arguments: list[str], log: Log) -> None:
        await run_uv(arguments, log=log, timeout_seconds=self.build_timeout_seconds, error=BuildFailed)

    @asynccontextmanager
    async def _alone(self, lock: Lock) -> AsyncIterator[None]:
        """Among all tasks and processes: a file lock belongs to the opened file, so it also holds between tasks."""
        self.root.mkdir(parents=True, exist_ok=True)
        file = os.open(self.root / f".{lock.hash}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self.build_timeout_seconds
        try:
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise BuildFailed(
                        f"Another build of environment {lock.hash} did not end in {self.build_timeout_seconds:g} s.",
                        hint="See whether another PRISM builds in the same folder; then try again.",
                    )
                await asyncio.sleep(LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
