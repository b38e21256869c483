"""The logs of several replicas as one: each line has the number of its replica, in the order in which lines come.

The id of a line says how far each of the logs was read, `1:<place>~2:<place>`. While there is only one replica, its
lines and their ids are unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from time import monotonic
from typing import Any, cast

from msgspec import structs

from app.runtime.logs.reader import LogLine

LINES_AHEAD = 1000
NUMBER = re.compile("[0-9]{1,4}")
Read = Callable[[int, str, bool], AsyncIterator[LogLine]]
"""(number, place, is_new) → the lines of that replica after that place, "" for none. is_new: whether the log appeared
later.
"""


class Places:
    """How far each log was read."""

    def __init__(self, after: str) -> None:
        """Parse the place. after: the id of a line given before, "" for none."""
        parts = (part.partition(":") for part in after.split("~"))
        self._of = {int(number): place for number, mark, place in parts if mark and NUMBER.fullmatch(number)}
        if after and not self._of:
            self._of = {1: after}

    def of(self, number: int) -> str:
        return self._of.get(number, "")

    def took(self, number: int, line: LogLine, *, alone: bool) -> LogLine:
        """Note that a line was read, and return it as the merged log gives it.

        alone: whether there is no other replica.
        """
        self._of[number] = line.id
        if alone:
            return line
        text = line.text if line.kind == "place" else f"[{number}] {line.text}"
        return structs.replace(line, text=text, id="~".join(f"{number}:{place}" for number, place in self._of.items()))


async def merged_log(
    numbers: Callable[[], set[int]], read: Read, follow: bool, after: str, poll_seconds: float
) -> AsyncIterator[LogLine]:
    """Yield the lines of all logs. numbers: returns the replicas that have a log now; more may come.

    after: the id of the line to go on after.
    """
    places = Places(after)
    if follow:
        async with aclosing(cast(Any, _Readers(numbers, read, places, bool(after)).lines(poll_seconds))) as lines:
            async for line in lines:
                yield line
        return
    known = sorted(numbers())
    for number in known:
        async with aclosing(cast(Any, read(number, places.of(number), False))) as lines:
            async for line in lines:
                yield places.took(number, line, alone=len(known) == 1)


class _Readers:
    """One task for each log, and the lines that the tasks have read ahead."""

    def __init__(self, numbers: Callable[[], set[int]], read: Read, places: Places, resumed: bool) -> None:
        self._numbers = numbers
        self._read = read
        self._places = places
        self._resumed = resumed
        self._lines: deque[tuple[int, LogLine]] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def lines(self, poll_seconds: float) -> AsyncIterator[LogLine]:
        """Yield lines until every log has ended."""
        looked_at = monotonic()
        self._begin(is_new=self._resumed)
        try:
            while self._lines or not all(task.done() for task in self._tasks.values()):
                while self._lines:
                    number, line = self._lines.popleft()
                    yield self._places.took(number, line, alone=len(self._tasks) == 1)
                self._room.set()
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), poll_seconds)
                if monotonic() - looked_at >= poll_seconds:
                    looked_at = monotonic()
                    self._begin(is_new=True)
            for task in self._tasks.values():
                task.result()  # raises what ended it
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, *, is_new: bool) -> None:
        for number in sorted(self._numbers() - self._tasks.keys()):
            place = self._places.of(number)
            self._tasks[number] = asyncio.create_task(self._take(number, place, is_new and not place))

    async def _take(self, number: int, place: str, is_new: bool) -> None:
        try:
            async with aclosing(cast(Any, self._read(number, place, is_new))) as lines:
                async for line in lines:
                    self._lines.append((number, line))
                    self._news.set()
                    while len(self._lines) >= LINES_AHEAD:
                        self._room.clear()
                        await self._room.wait()
        finally:
            self._news.set()
