"""Course of one table file: which batch is next, what its answer means, and where the run stopped.

Both clients use it; they differ only in how they send the batches.
"""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from prism.errors import APIError, FileStopped, InvalidRequest, InvalidResponse, PrismError, RateLimitedError
from prism.tables.answer import FilePrediction, TableAnswer
from prism.tables.parquet import parquet_as_csv
from prism.tables.records import Batch, CsvRecords
from prism.tables.result_file import ResultFile, Results, results_at

File = str | os.PathLike[str] | IO[bytes]
OnRows = Callable[[int, int, int | None], None]
"""Function called with the rows that have results, the bytes read of the file, and its size; None if it is unknown."""

PARQUET = ".parquet"

IN_FLIGHT = 4
"""Batches sent ahead: while the model works on one, others are read, decoded and written."""

FIRST_ROWS, MOST_ROWS = 16, 8192
MOST_GROWTH = 16
QUICK_SECONDS, SLOW_SECONDS = 0.5, 2.0
PATIENCE_SECONDS = 300.0
"""Longest time that a server which limits requests may ask to wait."""

ERROR_COLUMN = re.compile(r"[,;\t]error(_\d+)?\r?$")

OF_SOME_ROW = ("prediction_failed", "model_error", "model_crashed", "replica_timeout")
"""Codes of errors that some row of a batch has caused, though they do not say which."""


class Pace:
    """Number of rows a batch: it grows while answers come quickly and shrinks when they are slow.

    A model that needs a second for each row then gets a few at a time, and other callers wait only a moment.
    """

    def __init__(self) -> None:
        self.rows = FIRST_ROWS

    def adjust(self, rows: int, seconds: float) -> None:
        """Take into account that a batch of so many rows took so long."""
        if seconds < QUICK_SECONDS and rows >= self.rows:
            growth = min(MOST_GROWTH, QUICK_SECONDS / max(seconds, 0.001))
            self.rows = min(int(rows * growth), MOST_ROWS)
        elif seconds > SLOW_SECONDS and rows <= self.rows:
            self.rows = max(1, self.rows // 2)


class TableRun:
    """State of one run. `next_batch` and `accept` alternate until there is no batch and no answer left."""

    def __init__(self, records: CsvRecords, results: Results, total_bytes: int | None, on_rows: OnRows | None) -> None:
        self._records = records
        self._results = results
        self._total_bytes = total_bytes
        self._on_rows = on_rows or (lambda rows, read, total: None)
        self._pace = Pace()
        self._began = time.monotonic()
        self._failure: PrismError | None = None
        self.rows = records.rows
        self.errors = 0
        self.versions: list[str] = []

    def next_batch(self) -> Batch | None:
        """Return the next rows to send; None at the end of the file, or where it cannot be read, see `outcome`."""
        try:
            return None if self._failure else self._records.batch(self._pace.rows)
        except PrismError as error:
            self._failure = error
            return None

    def accept(self, batch: Batch, answer: TableAnswer) -> None:
        """Write the results of the next batch in order."""
        errors = errors_of(answer.body, self._records.delimiter)
        if errors and len(errors) == len(batch.lines) and not self.rows:
            raise InvalidResponse(f"None of the first {len(errors)} rows has a result. {errors[0]}")
        self._results.write(self._rows_of(answer, batch))
        self.errors += len(errors)
        self._pace.adjust(len(batch.lines), answer.seconds)
        if answer.version and answer.version not in self.versions:
            self.versions.append(answer.version)
        self.rows = batch.end_row
        self._on_rows(self.rows, batch.end_byte, self._total_bytes)

    def _rows_of(self, answer: TableAnswer, batch: Batch) -> bytes:
        """Return the rows of an answer: the first one of a file with the line of names, all others without."""
        header = self._results.header
        if not header:
            self._results.header = CsvRecords(io.BytesIO(answer.body), "the answer").names.encode()
            return answer.body
        if not answer.body.startswith(header):
            raise InvalidResponse(
                f"The results have other columns from line {batch.lines[0]} on.",
                hint="Another version of the model answers now: name one, such as iris@1.0.0.",
            )
        return answer.body[len(header) :]

    def stopped(self, error: PrismError, batch: Batch | None = None) -> FileStopped:
        """Return the error that says at which line the run stopped, why, and how it goes on."""
        detail = error.detail if batch is None else self._with_line(error, batch)
        return FileStopped(detail, hint=f"{error.hint} {self._kept()}".strip(), rows=self.rows, cause=error)

    def _kept(self) -> str:
        if not isinstance(self._results, ResultFile) or not self.rows:
            return ""
        return (
            f"The results of {self.rows} rows are in {self._results.part}; "
            "go on behind them with --resume (resume=True)."
        )

    def _with_line(self, error: PrismError, batch: Batch) -> str:
        """Return what the error says, with the line of the file in place of the row of the batch."""
        if not isinstance(error, APIError):
            return error.detail
        row, lines, source = error.document.get("row"), batch.lines, self._records.source
        if isinstance(row, int) and 0 <= row < len(lines):
            return error.detail.replace(f"Row {row}", f"Line {lines[row]} of {source}", 1)
        if error.code not in OF_SOME_ROW:
            return error.detail
        where = f"Line {lines[0]}" if len(lines) == 1 else f"Lines {lines[0]} to {lines[-1]}"
        return f"{where} of {source}: {error.detail}"

    def outcome(self) -> FilePrediction:
        """Return what the run did. Raises FileStopped if the file could not be read to its end, or has no rows."""
        if self._failure:
            raise self.stopped(self._failure)
        if not self.rows:
            raise InvalidRequest(f"{self._records.source} has no rows behind its line of names.")
        output = str(self._results.path) if isinstance(self._results, ResultFile) else ""
        return FilePrediction(self.rows, self.versions, time.monotonic() - self._began, output, self.errors)


def errors_of(answer: bytes, delimiter: str) -> list[str]:
    """Return the errors in the last column of an answer, as far as it has one."""
    written = answer.partition(b"\n")
    if not ERROR_COLUMN.search(written[0].decode()):
        return []
    if b'"' not in answer and answer.count(delimiter.encode() + b"\n") == answer.count(b"\n") - 1:
        return []  # the usual answer: each row ends in an empty cell
    rows = io.StringIO(written[2].decode(), newline="")
    return [row[-1] for row in csv.reader(rows, delimiter=delimiter) if row and row[-1]]


@contextmanager
def table_run(file: File, output: File, resume: bool, on_rows: OnRows | None) -> Iterator[TableRun]:
    """Open a table and the place of its results, which are complete when the context ends without an error."""
    with ExitStack() as stack:
        opened, total, source = _opened(file, stack)
        records = CsvRecords(opened, source)
        stack.callback(records.let_go)
        results = stack.enter_context(results_at(output, resume))
        if resume and isinstance(results, ResultFile):
            results.skip_finished(records)
        yield TableRun(records, results, total, on_rows)


def _opened(file: File, stack: ExitStack) -> tuple[IO[bytes], int | None, str]:
    """Return the table as CSV, its size if that is known, and its name in messages."""
    if not isinstance(file, (str, os.PathLike)):
        return file, None, "the table"
    path = Path(file)
    if path.suffix.lower() == PARQUET:
        return stack.enter_context(parquet_as_csv(path)), None, f"{path} as CSV"
    opened = stack.enter_context(path.open("rb"))
    return opened, os.fstat(opened.fileno()).st_size if path.is_file() else None, str(path)


def wait_seconds(error: RateLimitedError) -> float | None:
    """Return how long to wait until the server takes more requests; None if that is too long."""
    asked = error.retry_after_seconds
    return asked if asked is not None and asked <= PATIENCE_SECONDS else None
