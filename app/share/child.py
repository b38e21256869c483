"""Child process that cannot outlive this server: its start, its output lines and its end."""

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
from app.share import parent_guard
from app.share.tunnel import Processes, Worker

CODE_FOLDER = Path(__file__).resolve().parents[2]
LINES_KEPT = 50
LOOKED_FOR = (*USER, *LANGUAGE, *USER_FOLDERS, *PROXIES, *CERTIFICATES, *SSH, *NGROK)
"""Environment variables that ssh and ngrok read."""


def guarded(command: Sequence[str], parent: int) -> tuple[str, ...]:
    """Return the command line that runs `command` and ends it when process `parent` ends."""
    return (sys.executable, "-I", "-S", str(parent_guard.__file__), str(parent), *command)


class Child:
    """Running program and its process group. last: its last output lines, for the error message when it ends."""

    def __init__(self, process: asyncio.subprocess.Process, worker: Worker) -> None:
        self.worker = worker
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], processes: Processes, own: Mapping[str, str] | None = None) -> Child:
        """Start a program.

        command: must end when this process ends, either by `guarded` or on its own. own: extra environment variables
        for this child. Raises OSError if the program cannot be run.
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
        except psutil.NoSuchProcess:  # it has ended already; its last lines say why
            identity = f"{process.pid}:ended"
        return cls(process, Worker(identity, tuple(command)))

    async def lines(self) -> AsyncIterator[str]:
        """Yield the program's output lines until it ends."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # too long to be a line that we parse; readline has dropped it
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            self.last.append(text)
            yield text

    async def kill(self) -> None:
        """Kill the program and everything it started. They hold only connections, which the system closes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
