"""CSV request bodies: a line of names, then the rows, as pandas writes and MLflow reads them."""

from __future__ import annotations

import csv
import io
from typing import Any, Dict, FrozenSet, List, Union

from model_container.bodies.content import Decoded, Named, no_rows
from model_container.bodies.problems import Problem

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
) | {"NULL", "NaN", "None", "n/a", "nan", "null"}
"""Cells that count as missing: the same as in pandas."""

_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_MAX_CELL = 1 << 20


def decode(body: bytes, strings: FrozenSet[str], texts: FrozenSet[str] = frozenset()) -> Decoded:
    """Decode a CSV body.

    strings: columns that the model wants as strings. texts: those of them that may hold any text, so that no cell
    counts as missing. Any other column holds booleans or numbers if all its cells do.

    A first column without a name is the index that pandas writes; it is dropped. Raises Problem.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_csv(f"it is not UTF-8 (byte {error.start})") from None
    csv.field_size_limit(_MAX_CELL)
    try:
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise _not_csv(str(error)) from None
    if not lines:
        raise Problem(400, "empty_body", "The body is empty.", "Send a line with the column names, then the rows.")
    names, rows = lines[0], lines[1:]
    if not rows:
        raise no_rows()
    if len(set(names)) != len(names):
        raise Problem(422, "wrong_columns", "The first line names a column twice.", columns=names)
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise Problem(422, "ragged_rows", f"Row {index} has {len(row)} values for {len(names)} columns.", row=index)
    columns: Dict[str, Any] = {
        name: cells if name in texts else _values(cells, name in strings)
        for position, name in enumerate(names)
        if name or position
        for cells in [[row[position] for row in rows]]
    }
    return Decoded(Named(columns))


def _values(cells: List[str], are_strings: bool) -> List[Any]:
    if are_strings:
        return [None if cell in MISSING else cell for cell in cells]
    present = [cell for cell in cells if cell not in MISSING]
    if present and all(cell in _TRUTH for cell in present):
        return [_TRUTH.get(cell) for cell in cells]
    try:
        return [None if cell in MISSING else _number(cell) for cell in cells]
    except ValueError:
        return [None if cell in MISSING else cell for cell in cells]


def _number(cell: str) -> Union[int, float]:
    """Parse a number. Raises ValueError, also for underscores, which Python allows between digits."""
    if "_" in cell:
        raise ValueError(cell)
    try:
        return int(cell) if len(cell) <= 400 else float(cell)
    except ValueError:
        return float(cell)


def _not_csv(reason: str) -> Problem:
    return Problem(
        400, "not_csv", f"The body is not CSV: {reason}.", "pandas writes this format with df.to_csv(index=False)."
    )
