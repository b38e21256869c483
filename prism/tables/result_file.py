"""The file of results: written beside its place, and moved there when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from prism.errors import InvalidRequest
from prism.tables.records import CsvRecords, cells_of

PART = ".part"
TAIL_BYTES = 1 << 24
"""More than the longest row."""


class Results(Protocol):
    """Where results go. header: the first row of what is there already, b"" for nothing."""

    header: bytes

    def write(self, rows: bytes) -> None: ...


class ResultStream:
    """Results that are written to an open file as they come."""

    header = b""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, rows: bytes) -> None:
        self._file.write(rows)
        self._file.flush()


class ResultFile:
    """Results that appear at `path` once they are complete.

    Until then they are in `part`, which stays if the run stops, so that another run can resume it.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        self.header = b""
        if resume and not self.part.exists():
            raise InvalidRequest(f"There is no {self.part} to resume.", hint="Run it without resume.")
        try:
            self._file = self.part.open("r+b" if resume else "xb")
        except FileExistsError:
            raise InvalidRequest(
                f"{self.part} has the results of a run that stopped.",
                hint="Go on with it (`--resume`, or resume=True), or remove it.",
            ) from None

    def skip_finished(self, records: CsvRecords) -> None:
        """Read past the rows that the part has already. Its last row is dropped, as it may be incomplete.

        Raises InvalidRequest if the part does not belong to this table.
        """
        self._file.truncate(end_of_lines(self._file))
        self._file.seek(0)
        if not self._file.read(1):
            return
        kept = 0
        width = len(cells_of(records.names, records.delimiter))
        with open(self.part, "rb") as file:
            done = CsvRecords(file, str(self.part))
            self.header = done.names.encode()
            following = done.next()
            while following and (record := following):
                following = done.next()
                if not following:
                    break
                own = records.next()
                if cells_of(record, records.delimiter)[:width] != cells_of(own, records.delimiter):
                    raise InvalidRequest(
                        f"{self.part} does not belong to {records.source}: line {records.line} differs.",
                        hint="Give the file that it was made of, or remove it.",
                    )
                kept += len(record.encode())
        self._file.seek(len(self.header) + kept)
        self._file.truncate()

    def write(self, rows: bytes) -> None:
        self._file.write(rows)

    def finish(self) -> None:
        """Move the complete file to its place."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.part, self.path)

    def abandon(self) -> None:
        """Keep what is written, unless there is nothing."""
        with contextlib.suppress(OSError):
            self._file.close()
            if not self.part.stat().st_size:
                self.part.unlink()


def end_of_lines(file: IO[bytes]) -> int:
    """Return the size of the file without a last line that has no end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read()
    return size - len(tail) + tail.rfind(b"\n") + 1


@contextlib.contextmanager
def results_at(place: str | os.PathLike[str] | IO[bytes], resume: bool) -> Iterator[ResultFile | ResultStream]:
    """Open the place of the results. A device or a pipe is written to as it is."""
    if not isinstance(place, (str, os.PathLike)):
        yield ResultStream(place)
        return
    path = Path(place)
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield ResultStream(file)
        return
    results = ResultFile(path, resume)
    try:
        yield results
    except BaseException:
        results.abandon()
        raise
    results.finish()
