"""Parquet request bodies, read by the pyarrow of the model's environment, if it has one.

A file is hostile: its rows, columns and bytes are bounded by what its footer says before anything is read, and what comes
is counted against that. Threads would only take the model's own cores.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from model_container.bodies.content import CsvTable, Decoded, Named, no_rows
from model_container.bodies.csv_table import lines_of
from model_container.bodies.problems import Problem, shown
from model_container.contract.frames import OPTION_CSV, OPTION_ERRORS, Request

COLUMNS_MAX = 1 << 16
CELLS_MAX = 1 << 24
BYTES_MAX = 1 << 28
"""Most bytes that the columns may have uncompressed."""

ROWS_AT_A_TIME = 8192
_INDEX = re.compile(r"__index_level_\d+__")
_REASON_MAX = 160


def decode(request: Request) -> Decoded:
    """Decode a Parquet body to columns. An index that pandas wrote without a name is no column of the model.

    Numbers without missing values are arrays; a date is text in ISO 8601. Raises Problem.
    """
    names, columns = read(request.body)
    content = Named({name: values for name, values in zip(names, columns) if not _INDEX.fullmatch(name)})
    if not request.options & OPTION_CSV:
        return Decoded(content)
    lines = lines_of(zip(*map(plain, columns)), ",")
    table = CsvTable(list(names), [], lines, ",")
    return Decoded(content, table=table, has_errors=bool(request.options & OPTION_ERRORS))


def read(body: bytes) -> Tuple[Sequence[str], List[Any]]:
    """Return the names and the values of all columns. Raises Problem."""
    arrow, parquet = _arrow()
    try:
        with parquet.ParquetFile(arrow.BufferReader(body)) as file:
            names = file.schema_arrow.names
            _check(file.metadata, names)
            kinds = [_kind(arrow, field) for field in file.schema_arrow]
        # A long text that occurs in millions of rows is read once, and its rows share it.
        texts = [name for name, kind in zip(names, kinds) if kind == "text"]
        with parquet.ParquetFile(arrow.BufferReader(body), read_dictionary=texts) as file:
            parts: List[List[Any]] = [[] for _ in names]
            characters = 0
            for batch in _batches(file):
                for part, kind, column in zip(parts, kinds, batch.columns):
                    part.append(_values(arrow, kind, column))
                    characters += sum(len(text) for text in part[-1] if text) if kind == "text" else 0
                if characters > BYTES_MAX:
                    raise _too_large(f"its texts have more than {BYTES_MAX >> 20} million characters")
    except Problem:
        raise
    except MemoryError:
        raise _too_large("its columns do not fit into the model's memory") from None
    except Exception as error:  # a hostile file raises whatever its parser runs into
        raise _not_parquet(" ".join(str(error).split())) from None
    if not parts or not parts[0]:
        raise no_rows()
    return names, [_joined(part) for part in parts]


def plain(values: Any) -> List[Any]:
    """Return the values of a column as Python's own, None for a missing one."""
    if isinstance(values, np.ndarray):
        listed: List[Any] = values.tolist()
        return [None if value != value else value for value in listed] if values.dtype.kind == "f" else listed
    return list(values)


def _arrow() -> Tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-not-found,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise Problem(
            415,
            "parquet_reader_missing",
            "This model's environment has no pyarrow, which reads Parquet.",
            "Deploy the model again with pyarrow among its requirements, send the table as CSV, or use "
            "`prism predict REF -f data.parquet`, which reads it where the command runs if pyarrow is installed there.",
        ) from None
    return pyarrow, pyarrow.parquet


def _check(metadata: Any, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise Problem(422, "wrong_columns", "The file names a column twice.", columns=list(names)[:100])
    if len(names) > COLUMNS_MAX:
        raise Problem(422, "wrong_columns", f"The file has {len(names)} columns; at most {COLUMNS_MAX} are read.")
    if not metadata.num_rows:
        raise no_rows()
    if metadata.num_rows * len(names) > CELLS_MAX:
        raise _too_large(f"it has {metadata.num_rows:,} rows of {len(names):,} columns")
    sizes = (metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if sum(sizes) > BYTES_MAX:
        raise _too_large(f"uncompressed it has more than {BYTES_MAX >> 20} MiB")


def _batches(file: Any) -> Iterator[Any]:
    """Yield the file's rows in parts. Raises Problem if there are more than its footer says."""
    rows = 0
    for batch in file.iter_batches(ROWS_AT_A_TIME, use_threads=False):
        rows += batch.num_rows
        if rows > file.metadata.num_rows or batch.nbytes > BYTES_MAX:
            raise _too_large("it holds more than its footer says")
        yield batch


def _kind(arrow: Any, field: Any) -> str:
    """Return how a column is read. Raises Problem for one whose cells are no single values."""
    types = arrow.types
    of = field.type.value_type if types.is_dictionary(field.type) else field.type
    for kind, fits in (
        ("float", types.is_floating),
        ("number", types.is_integer),
        ("number", types.is_boolean),
        ("decimal", types.is_decimal),
        ("date", types.is_date),
        ("time", types.is_timestamp),
        ("text", types.is_string),
        ("text", types.is_large_string),
        ("text", types.is_null),
    ):
        if fits(of):
            return kind
    raise Problem(
        422,
        "not_a_value",
        f"Column {field.name!r} holds {str(of)[:60]}, which is no single value.",
        "Leave the column out, or send its rows as JSON.",
        column=field.name,
    )


def _values(arrow: Any, kind: str, column: Any) -> Any:
    if arrow.types.is_dictionary(column.type):
        if kind == "text":
            words = column.dictionary.to_pylist()
            return [None if index is None else words[index] for index in column.indices.to_pylist()]
        column = column.dictionary_decode()
    if kind == "float" or (kind == "number" and not column.null_count):
        return column.to_numpy(zero_copy_only=False)
    if kind == "time":
        column = column.cast(arrow.timestamp("us", column.type.tz), safe=False)
    values = column.to_pylist()
    if kind == "decimal":
        return [None if value is None else float(value) for value in values]
    if kind in ("date", "time"):
        return [None if value is None else value.isoformat() for value in values]
    return values


def _joined(parts: List[Any]) -> Any:
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [value for part in parts for value in (part.tolist() if isinstance(part, np.ndarray) else part)]


def _too_large(what: str) -> Problem:
    return Problem(
        413,
        "table_too_large",
        f"The Parquet file is too large for one request: {what}.",
        "Send it in parts, as `prism predict REF -f data.parquet -o out.csv` does.",
    )


def _not_parquet(reason: str) -> Problem:
    reason = reason if len(reason) <= _REASON_MAX else reason[: _REASON_MAX - 1] + "…"
    return Problem(
        400,
        "not_parquet",
        f"The body is not a Parquet file that can be read: {shown(reason)}.",
        "Send the file's bytes unchanged; pandas writes them with df.to_parquet.",
    )
