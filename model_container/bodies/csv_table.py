"""CSV request bodies: a line of names, then the rows, as pandas and spreadsheets write them."""

from __future__ import annotations

import csv
import io
import re
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Union

import msgspec
import numpy as np

from model_container.bodies.content import CsvTable, Decoded, Named, no_rows
from model_container.bodies.problems import Problem, shown
from model_container.bodies.values import ANY, DATETIME
from model_container.contract.frames import OPTION_CSV, OPTION_ERRORS, Request

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
) | {"NULL", "NaN", "None", "n/a", "nan", "null"}
"""Cells that count as missing: the same as in pandas."""

DELIMITERS = (",", ";", "\t")
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_BOOLEANS = {**_TRUTH, "1": True, "0": False}
_FLOATS = ("FP16", "BF16", "FP32", "FP64")
_LINE_END = "\r\n"  # a csv.writer quotes only cells with a character of it
_MAX_CELL = 1 << 20
_MAX_COLUMNS = 1 << 16

Port = Mapping[str, Any]

_json_numbers = msgspec.json.Decoder(List[float]).decode


def decode(request: Request, inputs: Sequence[Port] = (), texts: FrozenSet[str] = frozenset()) -> Decoded:
    """Decode a CSV body.

    inputs: of the model, as in its signature; their datatypes decide how cells are read. A column of no declared
    datatype holds booleans or numbers if all its cells do. texts: columns that may hold any text, so that no cell
    counts as missing.

    The first line decides the delimiter. A first column without a name is the index that pandas writes; it is dropped.
    Raises Problem.
    """
    table = read(request.body, [port["name"] for port in inputs])
    if not table.lines:
        raise no_rows()
    ports = _ports(table.names, inputs)
    columns: Dict[str, Any] = {}
    for name, cells in zip(table.names, table.columns):
        if name or columns:
            port = ports.get(name)
            is_text = name in texts or (port is not None and port["name"] in texts)
            columns[name] = np.array(cells, dtype=object) if is_text else _values(name, cells, port)
    beside = table if request.options & OPTION_CSV else None
    return Decoded(Named(columns), table=beside, has_errors=bool(request.options & OPTION_ERRORS))


def read(body: bytes, known_names: Sequence[str] = ()) -> CsvTable:
    """Split a body into cells. Blank lines are skipped. Raises Problem."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_csv(f"it is not UTF-8 (byte {error.start})", "Save it as CSV UTF-8.") from None
    known = frozenset(known_names)
    delimiter = _delimiter(text, known)
    lines = list(filter(None, text.replace("\r\n", "\n").replace("\r", "\n").split("\n")))
    is_plain = '"' not in text and max(map(len, lines), default=0) <= _MAX_CELL
    table = _plain_table(lines, delimiter) if is_plain else _quoted_table(text, delimiter)
    names = [name if name in known else name.strip() for name in table.names]
    if len(set(names)) != len(names):
        raise Problem(422, "wrong_columns", "The first line names a column twice.", columns=names)
    return table._replace(names=names)


def body_of(table: CsvTable, rows: Sequence[int]) -> bytes:
    """Return the CSV body of some rows of a table, given by their indices."""
    names = lines_of([table.names], table.delimiter)
    return "\n".join([*names, *(table.lines[row] for row in rows), ""]).encode()


def _plain_table(lines: List[str], delimiter: str) -> CsvTable:
    """Cut lines in which nothing is quoted: some six times as fast as the csv module."""
    if not lines:
        raise _empty()
    names, rows = lines[0].split(delimiter), lines[1:]
    width = len(names)
    for index, row in enumerate(rows):
        if row.count(delimiter) != width - 1:
            raise _ragged(index, row.count(delimiter) + 1, width)
    cells = delimiter.join(rows).split(delimiter)
    return CsvTable(names, [cells[at::width] for at in range(width)], rows, delimiter)


def _quoted_table(text: str, delimiter: str) -> CsvTable:
    csv.field_size_limit(_MAX_CELL)
    try:
        # A loop in Python, as one in C would keep the heartbeat's thread from running for seconds.
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise _not_csv(str(error)) from None
    if not rows:
        raise _empty()
    names = rows.pop(0)
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise _ragged(index, len(row), len(names))
    columns = [[row[at] for row in rows] for at in range(len(names))]
    return CsvTable(names, columns, lines_of(rows, delimiter), delimiter)


def lines_of(rows: Iterable[Sequence[Any]], delimiter: str) -> List[str]:
    """Write each row as a line of CSV, without line ends."""
    written = _Lines()
    write = csv.writer(written, delimiter=delimiter, lineterminator=_LINE_END).writerow
    for row in rows:  # no writerows, see _quoted_table
        write(row)
    return written.lines


class _Lines:
    """File for a csv.writer, which writes one row at a time."""

    def __init__(self) -> None:
        self.lines: List[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line[: -len(_LINE_END)])


def _delimiter(text: str, known: FrozenSet[str]) -> str:
    """Return the delimiter by which the first line has the most names of the model, or else the most names."""
    first = re.match(r"[\r\n]*([^\r\n]*)", text)
    assert first is not None  # it matches any text
    width = max(map(first[1].count, DELIMITERS))
    if width > _MAX_COLUMNS:
        raise Problem(422, "wrong_columns", f"The first line has {width} columns; at most {_MAX_COLUMNS} are read.")
    splits = {delimiter: _names(first[1], delimiter) for delimiter in DELIMITERS}
    return max(DELIMITERS, key=lambda each: (len(known.intersection(splits[each])), len(splits[each])))


def _names(line: str, delimiter: str) -> List[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _ports(names: Sequence[str], inputs: Sequence[Port]) -> Dict[str, Port]:
    """Return the input that each column is for: by name, or by position for names of which the model knows none."""
    named = {port["name"]: port for port in inputs}
    columns = names[1:] if names and not names[0] else names
    if named.keys().isdisjoint(columns) and len(columns) == len(inputs):
        return dict(zip(columns, inputs))
    return named


def _values(name: str, cells: Sequence[str], port: Optional[Port]) -> Any:
    """Return a column's values: an array if none needs a second look, as arrays are checked faster.

    A cell that does not fit the datatype remains a string.
    """
    datatype, choices = (ANY, ()) if port is None else (port["datatype"], port["choices"])
    if datatype in ("BYTES", DATETIME):
        missing = MISSING.difference(choices)
        if missing.isdisjoint(cells):
            return np.array(cells, dtype=object)
        return [None if cell in missing else cell for cell in cells]
    if datatype == "BOOL":
        return [_boolean(name, row, cell) for row, cell in enumerate(cells)]
    if datatype in _FLOATS:
        numbers = _plain_numbers(cells)
        return [_scalar(cell) for cell in cells] if numbers is None else numbers
    values = [_scalar(cell) for cell in cells]
    if datatype != ANY:
        return values
    kinds = set(map(type, values)) - {type(None)}
    if str in kinds or (bool in kinds and len(kinds) > 1):
        return [None if cell in MISSING else cell for cell in cells]
    return values


def _plain_numbers(cells: Sequence[str]) -> Any:
    """Return the array of cells that are all finite numbers; None if any is not.

    Nearly all are numbers of JSON, too, whose parser takes a fifth of the time.
    """
    try:
        numbers = np.array(_json_numbers(f"[{','.join(cells)}]"), np.float64)
        if len(numbers) == len(cells) and np.isfinite(numbers).all():  # a cell may hold a comma
            return numbers
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() and "_" not in "".join(cells) else None


def _scalar(cell: str) -> Union[bool, int, float, str, None]:
    if cell in MISSING:
        return None
    if cell in _TRUTH:
        return _TRUTH[cell]
    try:
        return _number(cell)
    except ValueError:
        return cell


def _number(cell: str) -> Union[int, float]:
    """Parse a number. Raises ValueError, also for underscores, which Python allows between digits."""
    if "_" in cell:
        raise ValueError(cell)
    try:
        return int(cell) if len(cell) <= 400 else float(cell)
    except ValueError:
        return float(cell)


def _boolean(name: str, row: int, cell: str) -> Optional[bool]:
    if cell in MISSING:
        return None
    if cell not in _BOOLEANS:
        raise Problem(
            422,
            "not_a_boolean",
            f"Row {row}, column {name!r} holds {shown(cell)} where true or false is expected.",
            "Write true, false, 1 or 0.",
            row=row,
            column=name,
        )
    return _BOOLEANS[cell]


def _empty() -> Problem:
    return Problem(400, "empty_body", "The body is empty.", "Send a line with the column names, then the rows.")


def _ragged(row: int, got: int, expected: int) -> Problem:
    return Problem(
        422,
        "ragged_rows",
        f"Row {row} has {got} values for {expected} columns.",
        "Quote a value that contains the delimiter.",
        row=row,
    )


def _not_csv(reason: str, hint: str = "pandas writes this format with df.to_csv(index=False).") -> Problem:
    return Problem(400, "not_csv", f"The body is not CSV: {reason}.", hint)
