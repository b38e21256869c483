"""The log of a replica: a file that its process appends to, without the gateway in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from io import FileIO
from pathlib import Path

MAX_BYTES = 10 << 20
BLOCK_BYTES = 64 << 10
POLL_SECONDS = 0.2


def log_path(folder: Path) -> Path:
    """folder: of the model."""
    return folder / "logs" / "runtime.log"


def rotate(path: Path) -> None:
    """One earlier log is kept. Within the life of a replica its supervisor keeps the file small."""
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        path.replace(path.with_name(path.name + ".1"))


def last_words(path: Path, pid: int) -> str:
    """Why the replica of that supervisor ended; "" if it did not say. See model_container/supervisor.py."""
    said = f"supervisor {pid}: the replica ended: "
    try:
        with FileIO(path) as file:
            lines = _last_lines(file, 50)
    except OSError:
        return ""
    return next((line.removeprefix(said) for line in reversed(lines) if line.startswith(said)), "")


async def read_log(path: Path, tail: int, grows: Callable[[], bool]) -> AsyncIterator[str]:
    """The last `tail` lines, then new ones for as long as it grows. Outlives rotation and truncation of the file."""
    try:
        file = FileIO(path)
    except FileNotFoundError:
        return
    try:
        for line in _last_lines(file, tail):
            yield line
        rest = b""
        while True:
            # Asked before reading: what was written last is then still read.
            over = not grows()
            rest += _added(file)
            *lines, rest = rest.split(b"\n")
            for one in lines:
                yield one.decode(errors="replace")
            if _replaced(path, file):
                file.close()
                file = FileIO(path)
            elif over:
                break
            else:
                await asyncio.sleep(POLL_SECONDS)
        if rest:
            yield rest.decode(errors="replace")
    finally:
        file.close()


def _last_lines(file: FileIO, count: int) -> list[str]:
    """Leaves the position after the last whole line; what follows it is still being written. Reads no more than it must."""
    position = end = file.seek(0, os.SEEK_END)
    text = b""
    while position > 0 and text.count(b"\n") <= count + 1:
        start = max(0, position - BLOCK_BYTES)
        file.seek(start)
        text = file.read(position - start) + text
        position = start
    whole, newline, unfinished = text.rpartition(b"\n")
    file.seek(end - len(unfinished))
    return whole.decode(errors="replace").split("\n")[-count:] if newline and count else []


def _added(file: FileIO) -> bytes:
    if os.fstat(file.fileno()).st_size < file.tell():
        file.seek(0)
    return file.read()


def _replaced(path: Path, file: FileIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False
