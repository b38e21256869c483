"""Output streams of a replica that never fail: a line that cannot be written, as on a full disk, is lost.

Each line is written once it is complete, and a line of a log file begins with its timestamp. Only a file needs that: a
container's engine, and a terminal's reader, know when a line came.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import time
from typing import Any, Optional

from model_container.contract.logfile import timestamp


class _Timestamps:
    """The timestamps in a log file that several streams write to."""

    def __init__(self) -> None:
        self._within_line = False

    def add(self, data: bytes) -> bytes:
        """Return what a stream writes next, with a timestamp before each line that begins in it."""
        now = timestamp(time.time_ns())
        begun = data[:-1].replace(b"\n", b"\n" + now) + data[-1:]
        stamped = begun if self._within_line else now + begun
        self._within_line = not data.endswith(b"\n")
        return stamped


class _Forgiving(io.RawIOBase):
    """Writer to a file descriptor that counts failed writes as done."""

    def __init__(self, file: int, timestamps: Optional[_Timestamps]) -> None:
        super().__init__()
        self._file = file
        self._timestamps = timestamps

    def fileno(self) -> int:
        return self._file

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._file)

    def write(self, data: Any) -> int:
        if self._timestamps is None:
            return self._written(data)
        unwritten = self._timestamps.add(bytes(data))
        while unwritten:  # a part of a line and its timestamp are no part of `data`
            unwritten = unwritten[self._written(unwritten) :]
        return memoryview(data).nbytes

    def _written(self, data: Any) -> int:
        """Return how many bytes were written or lost."""
        try:
            return os.write(self._file, data)
        except OSError:
            return memoryview(data).nbytes


def prepare_log_streams() -> None:
    """Replace stdout and stderr, so that neither `print` nor a traceback fails on a full disk.

    Such a failure would otherwise fail a prediction or end the replica.
    """
    timestamps = _Timestamps()
    sys.stdout = _stream(sys.stdout, timestamps)
    sys.stderr = _stream(sys.stderr, timestamps)


def _stream(present: Any, timestamps: _Timestamps) -> io.TextIOWrapper:
    """Wrap a stream's descriptor, with the stream's encoding unchanged."""
    file = present.fileno()
    is_file = stat.S_ISREG(os.fstat(file).st_mode)
    writer = io.BufferedWriter(_Forgiving(file, timestamps if is_file else None))
    return io.TextIOWrapper(writer, present.encoding, present.errors, line_buffering=True)
