"""`share.json`: tells the next server about a tunnel that a killed server left.

The file exists only while models are shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec
import psutil
import structlog
from msgspec import Struct

from app.core.atomic_file import write_atomic
from app.core.foreign_json import ForeignJsonError, read_json
from app.registry.unsaved import Unsaved
from app.share.tunnel import Processes, Status, Worker

log = structlog.get_logger(__name__)

END_SECONDS = 5.0
POLL_SECONDS = 0.01


class _File(Struct, frozen=True):
    status: Status
    worker: Worker | None


class ShareRecord:
    """Record of the open tunnel. path: the file, beside the registry; the holder of the registry's lock owns it."""

    def __init__(self, path: Path, processes: Processes, unsaved: Unsaved | None = None) -> None:
        self._path = path
        self._unsaved = unsaved or Unsaved()
        self._processes = processes
        self._writing = asyncio.Lock()

    async def write(self, status: Status, worker: Worker | None) -> None:
        content = msgspec.json.format(msgspec.json.encode(_File(status, worker)))
        # Write in a separate task: a cancelled caller must not cause a write after the file was removed.
        await asyncio.shield(asyncio.create_task(self._write(content)))

    async def _write(self, content: bytes) -> None:
        """Write the record now, or as soon as the disk allows. The worker ends with this server in any case."""
        try:
            await self._put(content)
        except OSError as error:
            self._unsaved.add(self._path, lambda: self._put(content), error)

    async def _put(self, content: bytes) -> None:
        async with self._writing:
            await asyncio.to_thread(write_atomic, self._path, content)
            self._unsaved.saved(self._path)

    async def clear(self) -> None:
        try:
            await self._remove()
        except OSError as error:
            self._unsaved.add(self._path, self._remove, error)

    async def _remove(self) -> None:
        async with self._writing:
            self._path.unlink(missing_ok=True)
            self._unsaved.saved(self._path)

    async def end_stale(self) -> None:
        """Close the tunnel of an earlier server if it is still open, and forget its URL."""
        try:
            recorded = read_json(self._path.read_bytes(), _File)
        except FileNotFoundError:
            return
        except (OSError, ForeignJsonError):
            recorded = None
        if (
            recorded is not None
            and recorded.worker is not None
            and await asyncio.to_thread(self._kill, recorded.worker)
        ):
            log.warning("a tunnel of an earlier server was still running; it is ended", url=recorded.status.url)
        await self.clear()

    def _kill(self, worker: Worker) -> bool:
        """Kill the worker's process group if the process has the same pid, start time and command line.

        The worker leads a process group of its own. Waits up to END_SECONDS; returns whether it was found.
        """
        process = self._processes.find(worker.id)
        try:
            if process is None or tuple(process.cmdline()) != worker.command:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        except psutil.Error:
            return False
        deadline = time.monotonic() + END_SECONDS
        while self._processes.find(worker.id) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return True
