"""A program that this server starts and that cannot outlive it: a leash around it, its lines, its certain end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import psutil

from app.core.child_environment import (
    CERTIFICATES,
    LANGUAGE,
    NGROK,
    PROXIES,
    SSH,
    USER,
    USER_FOLDERS,
    child_environment,
)
from app.share import leash
from app.share.tunnel import Processes, Worker

CODE_FOLDER = Path(__file__).resolve().parents[2]
LINES_KEPT = 50
LOOKED_FOR = (*USER, *LANGUAGE, *USER_FOLDERS, *PROXIES, *CERTIFICATES, *SSH, *NGROK)
"""Variables that ssh and ngrok read."""


def guarded(command: Sequence[str], parent: int) -> tuple[str, ...]:
    """The command line that runs `command` so that it ends with process `parent`."""
    return (sys.executable, "-I", "-S", str(leash.__file__), str(parent), *command)


class Child:
    """A running program and its process group. last: its last lines, for a message when it ends."""

    def __init__(self, process: asyncio.subprocess.Process, worker: Worker) -> None:
        self.worker = worker
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], processes: Processes, own: Mapping[str, str] | None = None) -> Child:
        """command: one that ends with this process, by `leashed` or by itself. own: variables for it alone.

        Raises OSError if it cannot be run.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=CODE_FOLDER,
            env=child_environment(LOOKED_FOR, own),
            start_new_session=True,
        )
        try:
            identity = processes.identity(process.pid)
        except psutil.NoSuchProcess:  # it has ended already, and its last lines tell why
            identity = f"{process.pid}:ended"
        return cls(process, Worker(identity, tuple(command)))

    async def lines(self) -> AsyncIterator[str]:
        """What it says, until it ends."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than anything that means something here; readline has dropped it
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            self.last.append(text)
            yield text

    async def kill(self) -> None:
        """End it and all it started. All they hold are connections, which the system closes with them."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
