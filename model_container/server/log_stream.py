"""What a replica prints, on streams that fail nobody: a line that its log cannot take, as on a full disk, is lost."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class _Forgiving(io.RawIOBase):
    """A descriptor to write to; what the system refuses counts as written."""

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
    """From now on neither `print` nor a traceback can fail for want of room, and take a prediction or a replica with it."""
    sys.stdout = _stream(sys.stdout)
    sys.stderr = _stream(sys.stderr)


def _stream(present: Any) -> io.TextIOWrapper:
    """As the present one in all else."""
    writer = io.BufferedWriter(_Forgiving(present.fileno()))
    return io.TextIOWrapper(writer, present.encoding, present.errors, line_buffering=present.line_buffering)
