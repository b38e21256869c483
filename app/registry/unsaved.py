"""Changes that are in effect but not on disk yet: they hold in memory and are written again until that succeeds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct, structs

from app.core.os_errors import as_problem, log_fields, purpose

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0

Write = Callable[[], Awaitable[None]]
"""Function that writes a file's current content. Raises OSError."""


class Owed(Struct, frozen=True):
    """File that still has to be written. since: when writing it failed first."""

    write: Write
    since: str
    error: OSError


class Unsaved:
    """Pending writes by path.

    Each file is written by its owner's own function, so that older content never overwrites newer content.
    """

    def __init__(
        self, first_pause_seconds: float = FIRST_PAUSE_SECONDS, longest_pause_seconds: float = LONGEST_PAUSE_SECONDS
    ) -> None:
        self._pauses = first_pause_seconds, longest_pause_seconds
        self._owed: dict[Path, Owed] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, path: Path) -> bool:
        return path in self._owed

    def add(self, path: Path, write: Write, error: OSError) -> None:
        """Schedule another write of `path`. error: why it could not be written just now."""
        if path not in self._owed:
            log.error(
                "not on disk yet; the write is retried until it succeeds", what=purpose(path), **log_fields(error)
            )
        since = self._owed[path].since if path in self._owed else _now()
        self._owed[path] = Owed(write, since, error)
        self._news.set()

    def saved(self, path: Path) -> None:
        """Drop the pending write of `path`: it succeeded or is no longer needed."""
        if self._owed.pop(path, None) is not None:
            log.info("on disk now", what=purpose(path), path=str(path))

    def documents(self) -> list[dict[str, Any]]:
        """Describe each pending write, for people and the API."""
        return [
            {"what": purpose(path), "since": owed.since, "reason": problem.detail, "hint": problem.hint}
            for path, owed in self._owed.items()
            for problem in (as_problem(owed.error),)
        ]

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name="write what is not on disk")

    async def end(self) -> None:
        """Stop retrying, attempt each write a last time, and log what is lost."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.write_all()
        for path, owed in self._owed.items():
            log.error("lost at shutdown: it could not be written", what=purpose(path), **log_fields(owed.error))

    async def write_all(self) -> None:
        """Attempt each pending write once."""
        for path, owed in list(self._owed.items()):
            try:
                # Whoever ends the server cancels this, and a write has to come to its end.
                await asyncio.shield(asyncio.ensure_future(owed.write()))
            except OSError as error:
                if self._owed.get(path) is owed:
                    self._owed[path] = structs.replace(owed, error=error)
            else:
                if self._owed.get(path) is owed:
                    self.saved(path)

    async def _run(self) -> None:
        first, longest = self._pauses
        while True:
            await self._news.wait()
            self._news.clear()
            pause = first
            while self._owed:
                await asyncio.sleep(pause)
                await self.write_all()
                pause = min(2 * pause, longest)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
