"""Fast path for the most frequent bodies: rows of numbers for a model whose inputs are all numbers.

    {"features": [[5.1, 3.5], …]} and its synonyms "input", "inputs", "instances"
    {"sepal length": 5.1, "sepal width": 3.5}, if these are exactly the model's columns

The body is decoded straight to floats, checked for its width, and joined in one matrix. Any other body (nulls, strings,
other dialects, a wrong width) is left to the general path, which gives the same array for valid bodies and reports what
is wrong with the rest.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Callable, List, Optional, Sequence

import msgspec
import numpy as np

from model_container.bodies.json_dialects import KEYS, VALUE_KEYS
from model_container.bodies.table import Table

PLAIN_DATATYPES = ("FP32", "FP64")
RECORD_COLUMNS_MAX = 256
"""Widest row read by name: wider rows are not sent by name, and building a decoder for them would take long."""

Matrix = List[List[float]]

_SINGLE_MAX = float(np.finfo(np.float32).max)
"""Largest FP32 number. FP64 needs no such check, since the JSON decoder accepts no number beyond a double."""

_Read = Callable[[bytes], Matrix]
_NOT_SO = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class PlainRows:
    """Fast-path reader for one table, which must be uniform and of a datatype in PLAIN_DATATYPES."""

    def __init__(self, table: Table) -> None:
        self._width = len(table.columns)
        self._widths = {self._width}
        self._is_single = table.columns[0].datatype == "FP32"
        self._forms: List[_Read] = []
        if table.known_names.isdisjoint(KEYS):
            self._forms += [_rows_reader(key) for key in VALUE_KEYS]
        if len(set(table.names)) == self._width <= RECORD_COLUMNS_MAX and not _needs_escape(table.names):
            self._forms.append(_record_reader(table.names))

    def read(self, body: bytes) -> Optional[Matrix]:
        """Return at least one row, each as wide as the table; None if the fast path cannot read the body."""
        for index, form in enumerate(self._forms):
            try:
                rows = form(body)
            except _NOT_SO:
                continue
            if index:  # clients keep to one form: try it first next time
                self._forms.insert(0, self._forms.pop(index))
            return rows if set(map(len, rows)) == self._widths else None
        return None

    def matrix(self, rows: Matrix) -> Any:
        """Return the same (rows, columns) matrix as the general path; None if a number is beyond the datatype."""
        flat = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * self._width)
        if self._is_single:
            if np.count_nonzero(np.abs(flat) > _SINGLE_MAX):
                return None
            flat = flat.astype(np.float32)
        return flat.reshape(-1, self._width)


def plain_rows(table: Any) -> Optional[PlainRows]:
    """Return the fast path for an adapter's input; None if its rows are not plain numbers."""
    if not isinstance(table, Table) or not table.uniform or table.columns[0].datatype not in PLAIN_DATATYPES:
        return None
    return PlainRows(table)


def _rows_reader(key: str) -> _Read:
    body_type: Any = msgspec.defstruct(
        "Rows", [("rows", Matrix)], rename={"rows": key}, forbid_unknown_fields=True, gc=False
    )
    decode = msgspec.json.Decoder(body_type).decode
    return lambda body: decode(body).rows


def _needs_escape(names: Sequence[str]) -> bool:
    """Return whether a name would need escaping in JSON: msgspec accepts no such field names."""
    return any(character in name for name in names for character in '"\\') or not all(map(str.isprintable, names))


def _record_reader(names: Sequence[str]) -> _Read:
    fields = [(f"column{index}", float) for index in range(len(names))]
    renamed = {field: name for (field, _), name in zip(fields, names)}
    record = msgspec.defstruct("Record", fields, rename=renamed, forbid_unknown_fields=True, gc=False)
    decode = msgspec.json.Decoder(record).decode
    return lambda body: [list(msgspec.structs.astuple(decode(body)))]
