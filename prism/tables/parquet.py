"""Parquet files as CSV, read a group of rows at a time by pyarrow, if it is installed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from prism.errors import InvalidRequest

ROWS_AT_A_TIME = 8192


def parquet_as_csv(path: Path) -> IO[bytes]:
    """Open a Parquet file as CSV; no more than a group of rows is in memory. Raises InvalidRequest."""
    try:
        arrow, csv, parquet = (import_module(name) for name in ("pyarrow", "pyarrow.csv", "pyarrow.parquet"))
    except ImportError as error:
        raise InvalidRequest(
            f"{path} is a Parquet file, and pyarrow, which reads them, is not installed.",
            hint=f"Install it with {sys.executable} -m pip install pyarrow, or save the table as CSV.",
        ) from error
    return io.BufferedReader(_Chunks(_csv_chunks(path, arrow, csv, parquet)))


def _csv_chunks(path: Path, arrow: Any, csv: Any, parquet: Any) -> Iterator[bytes]:
    try:
        with parquet.ParquetFile(path) as file:
            is_first = True
            for batch in file.iter_batches(ROWS_AT_A_TIME):
                written = arrow.BufferOutputStream()
                csv.write_csv(batch, written, csv.WriteOptions(include_header=is_first))
                is_first = False
                yield written.getvalue().to_pybytes()
    except arrow.ArrowException as error:
        raise InvalidRequest(
            f"{path} cannot be read as a table of text: {error}.",
            hint="Save it as CSV, or send rows that hold lists or objects as JSON.",
        ) from error


class _Chunks(io.RawIOBase):
    """Raw file of the bytes that an iterator makes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
