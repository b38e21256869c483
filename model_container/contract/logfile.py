"""Log file that writers append to and that is cut from the front when it grows too large; readers keep their positions.

The first line of a log that was cut says how many of its bytes have been dropped in total:

    prism: 000000000009437184 bytes of this log were dropped here

A position in the log counts the dropped bytes too, so a cut does not change it.

A line begins with the time at which it was written, in UTC, as the engine of containers stamps it:

    2026-01-02T03:04:05.678901234Z the model is loaded

Lines that a library writes past Python's streams, and lines of earlier logs, have no timestamp.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from typing import Optional, Tuple

_HEAD = b"prism: %s bytes of this log were dropped here\n"
_DIGITS = 18
_BEING_CUT = _HEAD % (b"-" * _DIGITS)
HEAD_BYTES = len(_BEING_CUT)
_PATTERN = re.compile(re.escape(_HEAD).replace(b"%s", b"([0-9]{18})"))
_BLOCK_BYTES = 1 << 18

TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z"
_TIMESTAMP = re.compile(f"({TIME}) ".encode())


def timestamp(time_ns: int) -> bytes:
    """Return what a line written at that time begins with. time_ns: nanoseconds since 1970."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z ".encode()


def split_timestamp(line: bytes) -> Tuple[str, bytes]:
    """Return the time at which a line was written, "" if it has no timestamp, and its text."""
    match = _TIMESTAMP.match(line)
    return (match[1].decode(), line[match.end() :]) if match else ("", line)


def read_head(file: int) -> Optional[Tuple[int, int]]:
    """Return how many bytes were dropped, and where in the file the rest begins; None while the log is being cut."""
    head = os.pread(file, HEAD_BYTES, 0)
    if head == _BEING_CUT:
        return None
    match = _PATTERN.fullmatch(head)
    return (int(match[1]), HEAD_BYTES) if match else (0, 0)


def open_to_cut(log: int) -> Optional[int]:
    """Reopen the file behind an appending descriptor.

    Linux appends every write through an appending descriptor, whatever the position. Returns None if it is no regular
    file or is not readable.
    """
    try:
        if not stat.S_ISREG(os.fstat(log).st_mode):
            return None
        os.pread(log, 1, 0)
        return os.open(f"/proc/self/fd/{log}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


def cut(file: int, max_bytes: int, kept_bytes: int) -> None:
    """Cut a log larger than max_bytes to whole lines at its end, at most kept_bytes. Raises OSError.

    Lines appended meanwhile are kept too, except for those between the last two system calls.
    """
    if os.fstat(file).st_size <= max_bytes:
        return
    # Two replicas share a log while one takes over. Do not wait for the lock: the model could hold it for ever.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        size = os.fstat(file).st_size
        if size > max_bytes:
            _cut(file, size - kept_bytes)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _cut(file: int, start: int) -> None:
    dropped, begins = read_head(file) or (0, 0)
    start += os.pread(file, _BLOCK_BYTES, start).find(b"\n") + 1
    os.pwrite(file, _BEING_CUT, 0)
    end, unread = HEAD_BYTES, start
    while end < start:
        block = os.pread(file, _BLOCK_BYTES, unread)
        if not block:
            break
        end += os.pwrite(file, block, end)
        unread += len(block)
    os.ftruncate(file, end)
    os.pwrite(file, _HEAD % str(dropped + start - begins).zfill(_DIGITS).encode(), 0)
