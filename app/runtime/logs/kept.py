"""Keeps a container's log. A line's place is the time that the engine stamped on it, also after the container's end."""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from itertools import accumulate, islice
from pathlib import Path

import msgspec
from msgspec import Struct

from app.core.foreign_json import ForeignJsonError, read_json
from app.runtime.logs.files import read_log, rotate, rotated
from app.runtime.logs.reader import LogCursor, LogLine, LogReader
from model_container.contract.logfile import TIME, split_timestamp

PLACE = re.compile(rf"c([0-9a-f]{{12}})-(|{TIME})-([0-9]{{1,9}})")
GONE = "The replica was replaced, and the end of its log was not saved; lines may be missing here."
ROTATED = "The engine dropped a part of the log; lines may be missing here."


class ContainerPlace(Struct, frozen=True, order=True):
    """The place behind a line of a container's log, written `c<its short id>-<time>-<ordinal>`.

    stamp: the time of the line, "" before the first. ordinal: counts the lines of one time, from 0.
    """

    container: str
    stamp: str = ""
    ordinal: int = 0

    def __str__(self) -> str:
        return f"c{self.container}-{self.stamp}-{self.ordinal}"

    @classmethod
    def parse(cls, text: str) -> ContainerPlace | None:
        match = PLACE.fullmatch(text)
        return cls(match[1], match[2], int(match[3])) if match else None

    @property
    def since(self) -> int:
        """The second in which the engine stamped the line, to ask the engine for what follows."""
        return int(datetime.fromisoformat(self.stamp[:19] + "+00:00").timestamp())


Stamped = tuple[ContainerPlace, bytes]


def short(identifier: str) -> str:
    return identifier[:12]


LINE_BYTES_MAX = 1 << 20
"""Longest line. A longer one comes in pieces, or a container that never ends its line would fill this process."""


class TimestampedLines:
    """The lines of the engine's messages. Each message has a stamp; a long line is several messages of one time."""

    def __init__(self, container: str) -> None:
        self._place = ContainerPlace(short(container))
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._stamp = ""

    def add(self, message: bytes) -> Iterator[Stamped]:
        """Yield the line that ends with this message, or has become too long with it."""
        stamp, piece = split_timestamp(message)
        if stamp and not self._pieces:
            self._stamp = stamp
        self._pieces.append(piece)
        self._pieces_bytes += len(message)
        if message.endswith(b"\n") or self._pieces_bytes >= LINE_BYTES_MAX:
            yield from self.rest()

    def rest(self) -> Iterator[Stamped]:
        """Yield the line that has no end yet."""
        if self._pieces:
            text, self._pieces, self._pieces_bytes = b"".join(self._pieces).removesuffix(b"\n"), [], 0
            ordinal = self._place.ordinal + 1 if self._place.stamp == self._stamp else 0
            self._place = ContainerPlace(self._place.container, self._stamp, ordinal)
            yield self._place, text


async def behind(place: ContainerPlace | None, lines: AsyncIterator[Stamped]) -> AsyncIterator[LogLine]:
    """Yield the lines after a place, with a gap first if its own line is missing: the engine then dropped lines."""
    is_there = place is None or not place.stamp
    async for at, text in lines:
        if place is not None and at <= place:
            is_there = is_there or at == place
            continue
        if place is not None and not is_there:
            yield LogLine(ROTATED, str(place), "gap")
            is_there = True
        yield LogLine(text.decode(errors="replace"), str(at), time=at.stamp)


class SavedLog(Struct, frozen=True):
    """The places of the lines of the container whose log was kept last.

    ends: for each line its stamp, its ordinal and the offset behind it.
    """

    container: str
    inode: int
    begins: int
    ends: list[tuple[str, int, int]]


def keep_log(path: Path, container: str, messages: Iterable[bytes]) -> None:
    """Append what a container said to the log of its model. Raises OSError."""
    lines = TimestampedLines(container)
    said = [line for message in messages for line in lines.add(message)] + list(lines.rest())
    stamped = [(place, f"{place.stamp} ".encode() + text if place.stamp else text) for place, text in said]
    path.parent.mkdir(exist_ok=True)
    rotate(path)
    with path.open("ab") as file, contextlib.closing(LogReader(path)) as reader:
        begins = reader.end()
        offsets = islice(accumulate((len(text) + 1 for _, text in stamped), initial=begins), 1, None)
        ends = [(place.stamp, place.ordinal, end) for (place, _), end in zip(stamped, offsets, strict=True)]
        # First, so that who reads the lines here knows that they are those of the container, which is still there.
        _beside(path).write_bytes(msgspec.json.encode(SavedLog(short(container), reader.inode, begins, ends)))
        file.writelines(text + b"\n" for _, text in stamped)


def place_in(path: Path, container: str, after: str) -> ContainerPlace:
    """Return how far into a container's log somebody is who has read the model's kept log up to `after`.

    The kept log may hold a part of the container's.
    """
    kept, read = _kept(path), LogCursor.parse(after)
    if kept and read and (kept.container, kept.inode) == (short(container), read.inode):
        count = bisect_right(kept.ends, read.offset, key=lambda end: end[2])
        if count:
            return ContainerPlace(kept.container, *kept.ends[count - 1][:2])
    return ContainerPlace(short(container))


async def kept_log(path: Path, tail: int, grows: Callable[[], bool], after: str = "") -> AsyncIterator[LogLine]:
    """Yield lines as `read_log` does, also behind a place in the log of a container that is gone."""
    place = ContainerPlace.parse(after)
    if place is not None:
        is_whole, after = _kept_place(path, place)
        if not is_whole:
            yield LogLine(GONE, after or str(place), "gap")
            tail = 0
    async for line in read_log(path, tail, grows, after):
        yield line


def _kept_place(path: Path, place: ContainerPlace) -> tuple[bool, str]:
    """Return whether all that followed a place is kept, and where it begins in the file, "" if nothing is."""
    kept = _kept(path)
    if kept is None:
        return False, ""
    count = bisect_right(kept.ends, (place.stamp, place.ordinal), key=lambda end: end[:2])
    if kept.container != place.container:
        count = 0
    is_whole = kept.container == place.container and (count > 0 or not place.stamp)
    for file in (path, rotated(path)):
        with contextlib.suppress(OSError), contextlib.closing(LogReader(file)) as reader:
            if reader.inode == kept.inode:
                return is_whole, reader.id_at(kept.ends[count - 1][2] if count else kept.begins)
    return False, ""


def _kept(path: Path) -> SavedLog | None:
    try:
        return read_json(_beside(path).read_bytes(), SavedLog)
    except (OSError, ForeignJsonError):
        return None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".container")
