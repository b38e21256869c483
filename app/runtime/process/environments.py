"""Builds the environments of the process target: one for each lock hash, once, by whoever comes first.

    <root>/<lock hash>-2/       what the lock lists, installed; no Python of its own. 2 is the layout
    <root>/<lock hash>-2.json   written last, and says that it is complete and which Python it is for
    <root>/<lock hash>.txt      the lock
    <root>/bytecode/            of packages, shared by the environments; see bytecode.py

What starts a replica is read from the record, which lies where no package is installed to. An environment without one
is a partial build, left by a crash, and is built anew. Layout 1 was a virtual environment in `<root>/<lock hash>/`: it
is not used, and goes with its lock.
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

import msgspec
from msgspec import Struct

from app.core.environment import Lock
from app.core.foreign_json import ForeignJsonError, read_json
from app.errors import BuildFailed
from app.runtime.packages.audit import site_packages
from app.runtime.packages.bytecode import compile_folder, remove_unused
from app.runtime.packages.install import install
from app.runtime.packages.uv import find_interpreters
from app.runtime.target import Log

LAYOUT = 2
LOCK_POLL_SECONDS = 0.1


class Record(Struct, frozen=True):
    """The record of an environment that is built. python: path of the base interpreter that its packages are for."""

    python: str


class Environments:
    """The environments in the folder `root`, each for the lock that it is made from."""

    def __init__(self, root: Path, build_timeout_seconds: float) -> None:
        self.root = root
        self.bytecode = root / "bytecode"
        self.build_timeout_seconds = build_timeout_seconds

    def path(self, lock: Lock) -> Path:
        return self.root / f"{lock.hash}-{LAYOUT}"

    def python(self, lock: Lock) -> str:
        """Return the interpreter to start; "" if the environment is not built, or its Python has been uninstalled."""
        try:
            record = read_json(self._record(lock).read_bytes(), Record)
        except (OSError, ForeignJsonError):
            return ""
        whole = self.path(lock).is_dir() and os.access(record.python, os.X_OK)
        return record.python if whole else ""

    def is_built(self, lock: Lock) -> bool:
        return bool(self.python(lock))

    async def build(self, lock: Lock, log: Log) -> None:
        """Build an environment unless it is there. Waits for another builder, in any process. Raises BuildFailed."""
        if self.is_built(lock):
            return
        async with self._alone(lock):
            if not self.is_built(lock):
                await self._build(lock, log)

    async def remove(self, lock: Lock) -> None:
        if not self.root.is_dir():
            return
        async with self._alone(lock):
            await asyncio.to_thread(self._forget, lock)
            await asyncio.to_thread(shutil.rmtree, self.root / lock.hash, ignore_errors=True)
            self._lock_text(lock).unlink(missing_ok=True)
        await asyncio.to_thread(remove_unused, self.bytecode)

    def _record(self, lock: Lock) -> Path:
        return self.root / f"{lock.hash}-{LAYOUT}.json"

    def _lock_text(self, lock: Lock) -> Path:
        return self.root / f"{lock.hash}.txt"

    def _forget(self, lock: Lock) -> None:
        """Remove an environment, its record first: if the rest is not removed whole, it then counts as unfinished."""
        self._record(lock).unlink(missing_ok=True)
        shutil.rmtree(self.path(lock), ignore_errors=True)

    async def _build(self, lock: Lock, log: Log) -> None:
        interpreters = await find_interpreters()
        if lock.python not in interpreters:
            raise BuildFailed(
                f"The model needs Python {lock.python}, and this machine has {', '.join(interpreters) or 'none'}.",
                hint=f"Install Python {lock.python}, or give the model another version of Python.",
            )
        python = interpreters[lock.python]
        started = time.monotonic()
        await asyncio.to_thread(self._forget, lock)
        self._lock_text(lock).write_text(lock.text)
        try:
            await install(lock, self.path(lock), python, log, self.build_timeout_seconds)
            packages = site_packages(self.path(lock), lock.python)
            await asyncio.to_thread(compile_folder, python, packages, self.bytecode, self.build_timeout_seconds)
        except BaseException:
            await asyncio.to_thread(self._forget, lock)
            raise
        self._write_record(lock, python)
        log(f"Environment {lock.hash} built in {time.monotonic() - started:.1f} s.")

    def _write_record(self, lock: Lock, python: str) -> None:
        unfinished = self._record(lock).with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(Record(python)))
        unfinished.replace(self._record(lock))

    @asynccontextmanager
    async def _alone(self, lock: Lock) -> AsyncIterator[None]:
        """Keep other tasks and processes out. A file lock belongs to the opened file, so it also holds between tasks.

        Raises BuildFailed if another build takes longer than the limit.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        file = os.open(self.root / f".{lock.hash}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self.build_timeout_seconds
        try:
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise BuildFailed(
                        f"Another build of environment {lock.hash} did not finish within {self.build_timeout_seconds:g} s.",
                        hint="Check whether another PRISM builds in the same folder, then try again.",
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
