"""The log of a replica: a file that its process appends to, without the gateway in between.

Every line that is read has an id, the place behind it. Reading goes on there with nothing lost and nothing twice:
after a cut connection, by another gateway, past a rotation or a cut of the log (model_container/contract/logfile.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from app.runtime.logs.reader import LogCursor, LogLine, LogReader

MAX_BYTES = 10 << 20
POLL_SECONDS = 0.2
LINES_AT_ONCE = 1000
REPLACED = "The log has been replaced since; lines may be missing here."


def log_path(folder: Path) -> Path:
    """Return the path of a model's log. folder: that of the model."""
    return folder / "logs" / "runtime.log"


def rotated(path: Path) -> Path:
    """Return where the log before this one is kept."""
    return path.with_name(path.name + ".1")


def rotate(path: Path) -> None:
    """Set a large log aside; one earlier log is kept. While a replica lives, its supervisor keeps the file small."""
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        path.replace(rotated(path))


async def read_log(path: Path, tail: int, grows: Callable[[], bool], after: str = "") -> AsyncIterator[LogLine]:
    """Yield the last `tail` lines, or all behind the place `after`, then new ones for as long as the log grows.

    A log that comes later is waited for. After a rotation reading goes on in the new file, once nothing is left in
    the old one.
    """
    is_there = path.exists()
    while not path.exists() and grows():
        await asyncio.sleep(POLL_SECONDS)
    if not path.exists():
        if after:
            yield LogLine(REPLACED, after, "gap")
        return
    resumed = await _reader_at(path, after) if after else None
    reader = resumed or LogReader(path)
    try:
        if after and not resumed:
            yield LogLine(REPLACED, reader.id, "gap")
        elif is_there and not after:
            reader.go_to_tail(tail)
        async for line in _read_on(reader, path, grows):
            yield line
    finally:
        reader.close()


async def _read_on(reader: LogReader, path: Path, grows: Callable[[], bool]) -> AsyncIterator[LogLine]:
    """Yield what follows where the reader is, for as long as the log grows."""
    begins_at = reader.id
    while True:
        # Asked before reading: what was written last is then still read.
        over, left = not grows(), reader.is_replaced(path)
        for number, line in enumerate(reader.rest() if over or left else reader.lines(), 1):
            yield line
            if number % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)  # others want to be served too
        if left:
            reader.move_to(path)
        elif over:
            return
        else:
            if reader.id == begins_at:
                yield LogLine("", begins_at, "place")
            begins_at = ""
            await asyncio.sleep(POLL_SECONDS)


async def _reader_at(path: Path, after: str) -> LogReader | None:
    """Return a reader at that place, in the log or in the one that was set aside; None where neither has it."""
    place = LogCursor.parse(after)
    if place is None:
        return None
    for file in (path, rotated(path)):
        if file.exists() and file.stat().st_ino == place.inode:
            for patience_seconds in (POLL_SECONDS, 0.0):
                reader = LogReader(file)
                if reader.go_to(place):
                    return reader
                reader.close()
                await asyncio.sleep(patience_seconds)  # it may just be being cut
    return None
