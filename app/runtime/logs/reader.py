"""Reads a log file by places, which say how far a reader is so that a later one, in another gateway, can go on."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Literal

from msgspec import Struct

from model_container.contract.logfile import read_head, split_timestamp

BLOCK_BYTES = 64 << 10
"""Most bytes read at once, and the longest line; a longer one comes in pieces."""

MARK_BYTES = 256


class LogLine(Struct, frozen=True):
    """A line of a log, or a word on it. id: the place behind it, from which reading can go on.

    kind: a "line"; a "gap", whose text says what is missing; the "place" where reading begins while there is no line.
    time: when it was written, as RFC 3339 in UTC with nanoseconds; "" where that is not known.
    """

    text: str
    id: str
    kind: Literal["line", "gap", "place"] = "line"
    time: str = ""

    def timestamped(self) -> str:
        """Return the text after its time, as `docker logs --timestamps` prints a line."""
        return f"{self.time} {self.text}" if self.time else self.text


class LogCursor(Struct, frozen=True):
    """A place in a log file, written `f<inode>-<offset>-<mark>`.

    offset: bytes of the whole log before it, also those cut away since. mark: of the line that ends there, by which
    a file is known to be still the one that was read.
    """

    inode: int
    offset: int
    mark: str

    def __str__(self) -> str:
        return f"f{self.inode:x}-{self.offset}-{self.mark}"

    @classmethod
    def parse(cls, text: str) -> LogCursor | None:
        match = re.fullmatch(r"f([0-9a-f]{1,16})-([0-9]{1,18})-([0-9a-f]{8})", text, re.ASCII)
        return cls(int(match[1], 16), int(match[2]), match[3]) if match else None


def fingerprint(line: bytes) -> str:
    return hashlib.blake2b(line[-MARK_BYTES:], digest_size=4).hexdigest()


class LogReader:
    """A log file that is open, and a place in it, at first its beginning. Raises OSError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._open(path)

    def _open(self, path: Path) -> None:
        self._file = FileIO(path)
        self.inode = os.fstat(self._file.fileno()).st_ino
        self._offset = 0
        self._line = b""  # the last bytes of the line that ends at the offset
        self._is_whole = True  # whether that line is at its end
        self._seen: tuple[tuple[int, int], int] | None = None
        self._lost = False

    def close(self) -> None:
        self._file.close()

    def move_to(self, path: Path) -> None:
        """Go to the beginning of the log that took the place of this one. Nothing happens while there is none."""
        left = self._file
        try:
            self._open(path)
        except FileNotFoundError:
            return
        left.close()

    @property
    def id(self) -> str:
        return str(LogCursor(self.inode, self._offset, fingerprint(self._line)))

    def id_at(self, offset: int) -> str:
        """Return the id of the place behind the line that ends at this offset."""
        dropped, begins = read_head(self._file.fileno()) or (0, 0)
        position = begins + offset - dropped
        line = self._line_before(position, begins)[0] if position > begins else b""
        return str(LogCursor(self.inode, offset, fingerprint(line)))

    def end(self) -> int:
        """Return the offset behind all that is there now."""
        dropped, begins = read_head(self._file.fileno()) or (0, 0)
        return dropped + self._size() - begins

    def is_replaced(self, path: Path) -> bool:
        try:
            return path.stat().st_ino != self.inode
        except FileNotFoundError:
            return False

    def go_to(self, place: LogCursor) -> bool:
        """Go to a place. Returns False, and does nothing, where this log does not have it, or is being cut."""
        head = read_head(self._file.fileno())
        if head is None or place.inode != self.inode:
            return False
        dropped, begins = head
        position = begins + place.offset - dropped
        if place.offset > dropped:
            if position > self._size() or fingerprint(self._line_before(position, begins)[0]) != place.mark:
                return False
            self._line, self._is_whole = self._line_before(position, begins)
        self._offset = place.offset
        return True

    def go_to_tail(self, count: int) -> None:
        """Go before the last `count` whole lines. What follows the last of them is still being written."""
        dropped, begins = read_head(self._file.fileno()) or (0, 0)
        start, newlines, wanted, block = self._size(), 0, count + 1, b""
        while start > begins and newlines < wanted:
            end, start = start, max(begins, start - BLOCK_BYTES)
            block = self._bytes(end - start, start)
            newlines += block.count(b"\n")
        position = 0
        for _ in range(newlines - wanted + 1):
            position = block.index(b"\n", position) + 1
        self._offset = dropped + start + position - begins
        self._line, self._is_whole = self._line_before(start + position, begins)

    def _line_before(self, position: int, begins: int) -> tuple[bytes, bool]:
        """Return the last bytes of the line that ends at this position, and whether it is a whole one."""
        start = max(begins, position - MARK_BYTES - 1)
        before = self._bytes(position - start, start)
        line = before.removesuffix(b"\n").rpartition(b"\n")[2][-MARK_BYTES:]
        return line, not before or before.endswith(b"\n")

    def lines(self) -> Iterator[LogLine]:
        """Yield what is there and was not yet given: lines that are whole, and gaps."""
        while True:
            gap = self._gap()
            if gap:
                yield LogLine(gap, self.id, "gap")
            block = self._unread()
            whole, newline, _ = block.rpartition(b"\n")
            if newline:
                for line in whole.split(b"\n"):
                    yield self._given(line, newline)
            elif len(block) == BLOCK_BYTES:
                yield self._given(block[: _end_of_characters(block)], b"")
            else:
                return

    def rest(self) -> Iterator[LogLine]:
        """Yield what is left, with the last line, which is not whole and never will be."""
        yield from self.lines()
        self._seen = None
        block, _, _ = self._unread().partition(b"\n")
        if block:
            yield self._given(block, b"")

    def _given(self, piece: bytes, newline: bytes) -> LogLine:
        time, text = split_timestamp(piece) if self._is_whole else ("", piece)
        self._offset += len(piece) + len(newline)
        self._line = (piece if self._is_whole else self._line + piece)[-MARK_BYTES:]
        self._is_whole = bool(newline)
        return LogLine(text.decode(errors="replace"), self.id, time=time)

    def _unread(self) -> bytes:
        """Return a block at most from the offset on; b"" while nothing was added, or while the log is being cut."""
        head, size = read_head(self._file.fileno()), self._size()
        if head is None or (head, size) == self._seen:
            return b""
        block = self._bytes(BLOCK_BYTES, head[1] + self._offset - head[0])
        if read_head(self._file.fileno()) != head:
            return b""
        if b"\n" not in block and len(block) < BLOCK_BYTES:
            self._seen = head, size
        return block

    def _gap(self) -> str:
        """Return what is missing at the offset, "" for nothing, and move the offset behind it."""
        head = read_head(self._file.fileno())
        dropped, begins = head or (0, 0)
        is_lost = head is None or begins + self._offset - dropped > self._size()
        was_lost, self._lost = self._lost, is_lost
        if head is not None and self._offset < dropped:
            missing = dropped - self._offset
            self._start_over(dropped)
            return f"{_amount(missing)} of the log were dropped before they could be read."
        if is_lost and was_lost:  # not only while somebody cuts it
            self._start_over(dropped)
            return "The log was emptied; lines may be missing here."
        return ""

    def _start_over(self, offset: int) -> None:
        self._offset, self._line, self._is_whole = offset, b"", True
        self._seen, self._lost = None, False

    def _bytes(self, count: int, start: int) -> bytes:
        return os.pread(self._file.fileno(), count, start)

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size


def _end_of_characters(block: bytes) -> int:
    """Return where the last whole UTF-8 character of a block ends."""
    for back in range(1, 4):
        if block[-back] >= 0xC0:
            return len(block) - back
        if block[-back] < 0x80:
            break
    return len(block)


def _amount(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB" if size_bytes >= 1 << 20 else f"{size_bytes} bytes"
