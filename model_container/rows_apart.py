"""Rows of a table one part at a time, where the table as a whole is refused: only the rows at fault have no result.

The rows are halved until a part is answered or is a single row. For b bad rows of n this takes some 2·b·log2(n / b)
calls, so the calls and the time are bounded; beyond that the whole request is refused.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from model_container.bodies.problems import Problem

CALLS_MAX = 2_000
SECONDS_MAX = 8.0
OF_A_ROW = ("prediction_failed", "model_error")
"""Codes of problems that some row has caused, though they do not say which."""

_PLACE = re.compile(r"^Row 0(, )?")

Predict = Callable[[Sequence[int]], Dict[str, List[Any]]]


class Apart(NamedTuple):
    """Results by column, None for a row without; and the error of each row, "" for none."""

    columns: Mapping[str, List[Any]]
    errors: List[str]


def may_be_of_a_row(problem: Mapping[str, Any]) -> bool:
    """Return whether a problem document is that of one row, so that others may be answered."""
    return "row" in problem or problem.get("code") in OF_A_ROW


def rows_apart(count: int, predict: Predict, names: Callable[[], Sequence[str]]) -> Optional[Apart]:
    """Predict the rows of a table that cannot be predicted at once; None if there are too many bad ones.

    predict: returns the results of the rows with these indices by column. Raises Problem. names: returns the columns'
    names where no row has a result, none if that is not to be answered.
    """
    found: Dict[str, List[Any]] = {}
    errors = [""] * count
    deadline = time.monotonic() + SECONDS_MAX
    calls = 0
    pending: List[Sequence[int]] = _halves(range(count))
    while pending:
        part = pending.pop()
        calls += 1
        if calls > CALLS_MAX or time.monotonic() > deadline:
            return None
        try:
            results = predict(part)
        except Problem as problem:
            if len(part) > 1:
                pending += _halves(part)
            else:
                errors[part[0]] = _of_this_row(problem)
            continue
        if not found:
            found = {name: [None] * count for name in results}
        if found.keys() != results.keys():
            return None
        for name, values in results.items():
            for row, value in zip(part, values):
                found[name][row] = value
    found = found or {name: [None] * count for name in names()}
    return Apart(found, errors) if found else None


def _halves(part: Sequence[int]) -> List[Sequence[int]]:
    """Return the halves of a part, the first one last, as it is next; a single row stays as it is."""
    middle = len(part) // 2
    return [part[middle:], part[:middle]] if middle else [part]


def _of_this_row(problem: Problem) -> str:
    text = _PLACE.sub("", problem.detail)
    return text[:1].upper() + text[1:]
