"""Output streams of a replica that never fail: a line that cannot be written, as on a full disk, is lost."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class _Forgiving(io.RawIOBase):
    """Writer to a file descriptor that counts failed writes as done."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file

    def fileno(self) -> int:
        return self._file

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._file)

    def write(self, data: Any) -> int:
        try:
            return os.write(self._file, data)
        except OSError:
            return memoryview(data).nbytes


def forgive_full_disks() -> None:
    """Replace stdout and stderr, so that neither `print` nor a traceback fails on a full disk.

    Such a failure would otherwise fail a prediction or end the replica.
    """
    sys.stdout = _stream(sys.stdout)
    sys.stderr = _stream(sys.stderr)


def _stream(present: Any) -> io.TextIOWrapper:
    """Wrap a stream's descriptor, with the stream's other properties unchanged."""
    writer = io.BufferedWriter(_Forgiving(present.fileno()))
    return io.TextIOWrapper(writer, present.encoding, present.errors, line_buffering=present.line_buffering)
