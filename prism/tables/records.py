"""Table files as batches of rows, kept as they are written: only the ends of rows are looked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO

from prism.errors import InvalidRequest

DELIMITERS = ",;\t"
BATCH_BYTES_MAX = 1 << 20
RECORD_CHARACTERS_MAX = 1 << 22
CELL_CHARACTERS_MAX = 1 << 20
"""Longest cell, as in the server."""

NEVER_CLOSED = "Look there for a quotation mark that is never closed."


@dataclass(frozen=True)
class Batch:
    """Rows to send together, after the line of names. lines: in the file, of each row. first_row: its number, from 0.

    end_byte: how far the file is read.
    """

    body: bytes
    lines: list[int]
    first_row: int
    end_byte: int

    @property
    def end_row(self) -> int:
        return self.first_row + len(self.lines)


class CsvRecords:
    """Rows of a CSV file. source: its name in messages. names: the first row as it is written, with its line end.

    line: where the row that was read last begins, from 1. rows: how many were read after the names.
    """

    def __init__(self, file: IO[bytes], source: str) -> None:
        self.source = source
        self.line = self.rows = 0
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        self._next_line = 1
        self._lines = self._numbered()
        self.delimiter = ","
        self.names = self._read()
        if not self.names:
            raise InvalidRequest(f"{source} is empty.", hint="Its first line must have the names of the columns.")
        self.delimiter = delimiter_of(self.names)
        self._bytes = len(self.names.encode())

    def batch(self, rows: int) -> Batch | None:
        """Return the next rows, at most so many and BATCH_BYTES_MAX of them; None at the end of the file."""
        first_row, size = self.rows, 0
        lines: list[int] = []
        records: list[str] = []
        while len(records) < rows and size < BATCH_BYTES_MAX:
            record = self.next()
            if not record:
                break
            records.append(record)
            lines.append(self.line)
            size += len(record)
        if not records:
            return None
        rows_as_written = "".join(records).encode()
        self._bytes += len(rows_as_written)
        return Batch(ended(self.names).encode() + rows_as_written, lines, first_row, self._bytes)

    def next(self) -> str:
        """Return the next row as it is written; "" at the end of the file. Raises InvalidRequest."""
        record = self._read()
        self.rows += bool(record)
        return record

    def let_go(self) -> None:
        """Leave the file open for its owner; otherwise it would be closed together with this reader."""
        self._text.detach()

    def _read(self) -> str:
        for line in self._lines:
            if line.strip("\r\n"):
                self.line = self._next_line - 1
                return self._whole(line) if '"' in line else line
        return ""

    def _whole(self, line: str) -> str:
        """Return the row that begins with this line: a cell in quotes may hold line breaks."""
        taken = [line]

        def lines() -> Iterator[str]:
            size = len(line)
            yield line
            for more in self._lines:
                taken.append(more)
                size += len(more)
                if size > RECORD_CHARACTERS_MAX:
                    raise self._too_long()
                yield more

        csv.field_size_limit(max(csv.field_size_limit(), CELL_CHARACTERS_MAX))
        try:
            next(csv.reader(lines(), delimiter=self.delimiter))
        except csv.Error as error:
            raise InvalidRequest(
                f"Line {self.line} of {self.source} is not CSV: {error}.", hint=NEVER_CLOSED
            ) from error
        return "".join(taken)

    def _numbered(self) -> Iterator[str]:
        read = partial(self._text.readline, RECORD_CHARACTERS_MAX + 1)
        try:
            for line in iter(read, ""):
                if len(line) > RECORD_CHARACTERS_MAX:
                    raise self._too_long()
                self._next_line += 1
                yield line
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"{self.source} is not UTF-8 text: {error.reason}, after line {self._next_line - 1}.",
                hint="Save it as CSV UTF-8.",
            ) from error

    def _too_long(self) -> InvalidRequest:
        return InvalidRequest(
            f"A row near line {self._next_line} of {self.source} is longer than {RECORD_CHARACTERS_MAX} characters.",
            hint=NEVER_CLOSED,
        )


def delimiter_of(names: str) -> str:
    """Return the delimiter that makes the most columns of the first row."""
    return max(DELIMITERS, key=lambda each: len(cells_of(names, each)))


def cells_of(record: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(record, newline=""), delimiter=delimiter), [])


def ended(record: str) -> str:
    """Return the row with a line end, which the last one of a file may lack."""
    return record if record.endswith(("\n", "\r")) else f"{record}\n"
