"""Requests for a table that the model can probably answer, made from what is known of its columns."""

from __future__ import annotations

from typing import Any, List, Sequence

from model_container.adapters.columns import ColumnFacts
from model_container.bodies.values import A_DATE, DATETIME

_NUMBERS = (None, 1.0, 0.0, 0.5)
"""The number in each column of one sample; None for a value that is typical of the column."""


def table_samples(columns: Sequence[ColumnFacts], named: bool) -> List[Any]:
    """Return one row in each sample, best first. Columns that the model drops are left out where they have names."""
    rows = [[_sample(column, number) for column in columns] for number in _NUMBERS]
    if not named:
        return _unique([{"features": [row]} for row in rows])
    used = [[(column.name, value) for column, value in zip(columns, row) if not column.is_unused] for row in rows]
    return _unique(list(map(dict, used)))


def _sample(column: ColumnFacts, number: Any) -> Any:
    if column.choices:
        return column.choices[0]
    if column.datatype == DATETIME:
        return A_DATE
    if column.datatype == "BOOL":
        return number != 0
    if column.datatype == "BYTES":
        return column.typical if isinstance(column.typical, str) else "a"
    if number is None:
        value = column.typical
        number = short(value) if isinstance(value, (int, float, str)) and value == value else 1.0
    return round(number) if column.datatype.startswith(("INT", "UINT")) and isinstance(number, float) else number


def short(value: Any) -> Any:
    """Return a number with the three digits that a person would type: 5.84 for a mean of 5.843333333333334."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _unique(samples: List[Any]) -> List[Any]:
    return [sample for index, sample in enumerate(samples) if sample not in samples[:index]]
