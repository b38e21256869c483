"""CSV answers: the rows of the request with the results beside them, delimited as the request is."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

import msgspec
import numpy as np

from model_container.adapters.base import Outputs
from model_container.bodies.content import CsvTable
from model_container.bodies.csv_table import lines_of
from model_container.bodies.plain_json import encode_json
from model_container.bodies.problems import Problem

PREDICTION = "prediction"
"""Name of the column of an output that the model does not name."""


ERROR = "error"
"""Name of the column that says why a row has no result."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def table_with_results(table: CsvTable, columns: Mapping[str, List[Any]], errors: Optional[Sequence[str]]) -> bytes:
    """Write each row with its results. errors: of each row, "" for none; None leaves their column out."""
    beside = dict(columns) if errors is None else {**columns, _unused([ERROR], list(columns))[0]: errors}
    names = lines_of([[*table.names, *_unused([guarded(name) for name in beside], table.names)]], table.delimiter)
    results = _lines(list(beside.values()), table.delimiter)
    rows = [f"{row}{table.delimiter}{result}" for row, result in zip(table.lines, results)]
    return "\n".join([*names, *rows, ""]).encode("utf-8", "replace")


def _lines(columns: List[Sequence[Any]], delimiter: str) -> List[str]:
    """Write the rows of some columns as lines of CSV: texts in which nothing is to be quoted without the csv module."""
    texts = [column for column in columns if set(map(type, column)) == {str}]
    special = ('"', "\r", "\n", delimiter)
    is_plain = len(texts) == len(columns) > 1 and not any(mark in "".join(text) for text in texts for mark in special)
    return list(map(delimiter.join, zip(*columns))) if is_plain else lines_of(zip(*columns), delimiter)


def result_columns(outputs: Outputs, classes: List[Any], rows: int) -> Dict[str, List[Any]]:
    """Return the results of each row by the name of their column.

    An output of several values a row becomes as many columns. NaN is an empty cell, a list or an object is JSON.
    Raises Problem if the results do not belong to the rows one by one.
    """
    columns = _columns(outputs, classes) if outputs.by_row else {}
    if not columns or any(len(values) != rows for values in columns.values()):
        raise Problem(
            422,
            "not_by_row",
            "The model's results do not belong to the rows one by one, so they cannot be written beside them.",
            "Leave out `Accept: text/csv` for an answer as JSON.",
        )
    return columns


def guarded(text: str) -> str:
    """Return a model's text so that no spreadsheet takes it for a formula: with an apostrophe in front.

    A number as text stays as it is: it computes nothing.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text) else text


def _columns(outputs: Outputs, classes: List[Any]) -> Dict[str, List[Any]]:
    columns: Dict[str, List[Any]] = {}
    for name, value in outputs.values.items():
        columns.update(_split(name if outputs.named else PREDICTION, value))
    shares = outputs.probabilities or []
    for index, array in enumerate(shares):
        labels = classes if len(shares) == 1 else classes[index]
        prefix = "probability" if len(shares) == 1 else f"probability_{index}"
        columns.update(_split(prefix, array, labels))
    return columns


def _split(name: str, value: Any, labels: Sequence[Any] = ()) -> Dict[str, List[Any]]:
    """Return the columns of one output by name. labels: of its values, if they have some."""
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        return {name: _cells(value)}
    ends = labels if len(labels) == value.shape[1] else range(value.shape[1])
    return {f"{name}_{end}": _cells(column) for end, column in zip(ends, value.T)}


def _cells(values: Any) -> List[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iuf":
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return msgspec.json.encode(listed).decode()[1:-1].split(",") if listed else []
        return [None if cell != cell else cell for cell in listed]
    return [guarded(value) if type(value) is str else _cell(value) for value in listed]


def _cell(value: Any) -> Optional[str]:
    encoded = encode_json(value)
    if encoded[:1] == b"n":
        return None
    return guarded(msgspec.json.decode(encoded)) if encoded[:1] == b'"' else encoded.decode()


def _unused(names: List[str], taken: List[str]) -> List[str]:
    """Return the names, each with a number behind it if the table has such a column already."""
    used, chosen = set(taken), []
    for name in names:
        number, free = 2, name
        while free in used:
            number, free = number + 1, f"{name}_{number}"
        used.add(free)
        chosen.append(free)
    return chosen
