"""A log as server-sent events.

(no name)  a line; its id is its place in the log, from which a disconnected client resumes (Last-Event-ID, or ?after=)
gap        lines are missing here; the text says why
place      the place where reading begins while there is no line yet
alive      every 15 s, so that a client notices a dead network
problem    the log cannot be read; the text says why
end        nothing more comes; the text is the model's status, or `closing` when the server ends
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from fastapi.sse import format_sse_event

from app.errors import PrismError
from app.runtime.logs.reader import LogLine

ALIVE_SECONDS = 15.0
RETRY_MS = 1000
WAITING_MAX = 1000
CLOSING = "closing"
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers that keep proxies from holding back events."""

OPENING = format_sse_event(event="alive", data_str="", retry=RETRY_MS)


async def events(
    lines: AsyncIterator[LogLine],
    closing: asyncio.Event,
    status: Callable[[], str],
    alive_seconds: float = ALIVE_SECONDS,
    *,
    timestamps: bool = False,
) -> AsyncIterator[bytes]:
    """Yield a log as events. status: returns the model's status, asked once its log has ended.

    timestamps: whether the time of a line precedes it.
    """
    queue = _Queue(lines, closing)
    yield OPENING
    try:
        while not queue.is_over:
            batch = await queue.take(alive_seconds)
            if batch:
                yield b"".join(_event(line, timestamps) for line in batch)
            elif not queue.is_over:
                yield format_sse_event(event="alive", data_str="")
        if queue.problem is not None:
            yield format_sse_event(event="problem", data_str=str(queue.problem))
        yield format_sse_event(event="end", data_str=CLOSING if closing.is_set() else status())
    finally:
        await queue.close()


def shown_text(line: LogLine, timestamps: bool) -> str:
    """Return a line as it is sent. timestamps: whether its time precedes it, where that is known."""
    return line.timestamped() if timestamps else line.text


def _event(line: LogLine, timestamps: bool) -> bytes:
    kind = None if line.kind == "line" else line.kind
    return format_sse_event(event=kind, data_str=shown_text(line, timestamps), id=line.id)


class _Queue:
    """Lines that are read ahead, a thousand at most.

    One task reads them all: a task for each would cost more than the line.
    """

    def __init__(self, lines: AsyncIterator[LogLine], closing: asyncio.Event) -> None:
        self.problem: PrismError | None = None
        self.is_over = False
        self._lines = lines
        self._found: deque[LogLine] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._wait(closing))]

    async def take(self, seconds: float) -> list[LogLine]:
        """Return all lines that are there; [] if none came within `seconds`, or the log is over."""
        if not self._found and not self._tasks[0].done():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return []
        batch = list(self._found)
        self._found.clear()
        self._room.set()
        reading, waiting = self._tasks
        if reading.done():
            reading.result()
        self.is_over = reading.done() or waiting.done()
        return batch

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async with aclosing(cast(Any, self._lines)) as lines:
                async for line in lines:
                    self._found.append(line)
                    self._news.set()
                    if len(self._found) >= WAITING_MAX:
                        self._room.clear()
                        await self._room.wait()
        except PrismError as error:
            self.problem = error
        finally:
            self._news.set()

    async def _wait(self, closing: asyncio.Event) -> None:
        await closing.wait()
        self._news.set()
