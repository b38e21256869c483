"""Comparison of two variants of a model: whether they give the same answers, and how much faster the second is."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Sequence, Tuple

import msgspec
import numpy as np

from model_container.adapters.base import PROBABILITIES, Adapter, Inputs
from model_container.batch import Batcher
from model_container.contract.frames import OPTION_PROBABILITIES, Answer, Request
from model_container.conversion.rows import RowSet

RELATIVE = 1e-5
"""Tolerance relative to each number; ABSOLUTE times the largest number of the original is added.

This is the accuracy that single precision leaves in a sum.
"""
ABSOLUTE = 1e-6
GAPS = 0.15
SPEED_ROWS = (1, 256)
LEAST_SPEEDUP = {1: 1.2, 256: 1.0}
MEASURED_SECONDS = 0.1
MEASURED_CALLS = 50
MEASURED_CALLS_MIN = 3
"""Calls measured however long they take, so that one call delayed by other work on the machine is not the median."""


class Difference(Exception):
    """Error of a converted variant that does not answer as the original does."""


@dataclass(frozen=True)
class Comparison:
    """Result of the comparison; app.core.acceleration.Report describes its fields."""

    reason: str = ""
    speedup: Dict[str, float] = field(default_factory=dict)
    rows_compared: int = 0
    max_difference: float = 0.0
    tolerance: Dict[str, float] = field(default_factory=dict)
    converter: str = ""


def compare_variants(original: Adapter, faster: Adapter, rows: RowSet, converter: str) -> Comparison:
    """Compare both variants.

    Raises Difference if they answer differently; `reason` says if serving it is not worthwhile.
    """
    missing = [column for column in rows.number_columns if _answers(original, rows.with_values([column], math.nan))]
    sets = [rows, rows.with_gaps(missing, GAPS)] if missing else [rows]
    compared = [compare(original, faster, row_set.all()) for row_set in sets]
    same_answers(original, faster, *request_bodies(rows, original.samples()))
    speedup = {str(count): round(_speedup(original, faster, rows, count), 1) for count in SPEED_ROWS}
    return Comparison(
        reason=_too_slow(speedup),
        speedup=speedup,
        rows_compared=sum(row_set.rows for row_set in sets),
        max_difference=max(difference for difference, _ in compared),
        tolerance={"relative": RELATIVE, "absolute": max(absolute for _, absolute in compared)},
        converter=converter,
    )


def _answers(adapter: Adapter, inputs: Inputs) -> bool:
    try:
        adapter.predict(inputs, False)
    except ValueError:
        return False
    return True


def compare(original: Adapter, faster: Adapter, inputs: Inputs) -> Tuple[float, float]:
    """Return the largest difference of numbers, and the absolute part of the tolerance. Raises Difference."""
    wanted = original.predict(inputs, original.has_probabilities)
    got = faster.predict(inputs, original.has_probabilities)
    results = [_compare(name, wanted.values[name], got.values.get(name)) for name in wanted.values]
    for first, second in zip(wanted.probabilities or [], got.probabilities or []):
        results.append(_compare(PROBABILITIES, np.asarray(first, dtype=np.float64), second))
    return max(difference for difference, _ in results), max(absolute for _, absolute in results)


def _compare(name: str, wanted: Any, got: Any) -> Tuple[float, float]:
    if not isinstance(got, np.ndarray) or wanted.shape != got.shape:
        raise Difference(f"the shape of its {name} changes")
    if wanted.dtype.kind != "f":
        differing = np.flatnonzero((wanted != got).reshape(len(wanted), -1).any(axis=1))
        if len(differing):
            row = int(differing[0])
            raise Difference(
                f"{len(differing)} of {len(wanted)} compared rows get a different label, for example {got[row]} instead of {wanted[row]}"
            )
        return 0.0, 0.0
    finite = wanted[np.isfinite(wanted)]
    absolute = ABSOLUTE * max(1.0, float(np.abs(finite).max())) if finite.size else ABSOLUTE
    with np.errstate(invalid="ignore"):
        differences = np.abs(got.astype(np.float64) - wanted)
    both_missing = np.isnan(wanted) & np.isnan(got)
    far = ~both_missing & ~(differences <= absolute + RELATIVE * np.abs(wanted))
    if far.any():
        place = tuple(np.argwhere(far)[0])
        raise Difference(
            f"{int(far.sum())} of {wanted.size} compared {name} differ by more than the tolerance, "
            f"for example {float(got[place]):.9g} instead of {float(wanted[place]):.9g}"
        )
    return float(np.max(np.where(both_missing, 0.0, differences))), absolute


def request_bodies(rows: RowSet, samples: List[Any]) -> Tuple[List[bytes], List[bytes]]:
    """Return two lists of requests as clients send them: valid ones with every kind of mistake, and ones with absurd
    numbers.
    """
    right = [_plain(column[0]) for column in rows.columns]
    bodies: List[Any] = [*samples, {"features": [right]}, {"features": [right, right]}, {"features": [right[:-1]]}]
    absurd: List[Any] = []
    for index in range(min(rows.width, 16)):
        for value in (None, "no such value", True, [1]):
            bodies.append({"features": [[*right[:index], value, *right[index + 1 :]]]})
        absurd.append({"features": [[*right[:index], 1e39, *right[index + 1 :]]]})
    bodies += [{}, {"features": []}, {"no such name": 1}, {"inputs": [{"name": "x"}]}, [right], right]
    return [json.dumps(body).encode() for body in bodies], [json.dumps(body).encode() for body in absurd]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def same_answers(original: Adapter, faster: Adapter, bodies: List[bytes], absurd: Sequence[bytes] = ()) -> None:
    """Compare the answers to each body alone, with and without probabilities.

    Raises Difference with the first different answer. absurd: bodies with numbers that only doubles hold. Both variants
    must refuse them alike; if they accept them, the predictions are meaningless in either variant and are not compared.
    """
    first, second = Batcher(original), Batcher(faster)
    for options in (0, OPTION_PROBABILITIES) if original.has_probabilities else (0,):
        for body in (*bodies, *absurd):
            request = [Request(body, options=options)]
            (wanted,), (got,) = first.run(request)[0], second.run(request)[0]
            meaningless = body in absurd and wanted.status == got.status == 200
            if not meaningless and not _same_answer(wanted, got):
                raise Difference(
                    f"a request is answered differently: {_cut(body)} gets {got.status} {_cut(got.body)} "
                    f"instead of {wanted.status} {_cut(wanted.body)}"
                )


def _same_answer(wanted: Answer, got: Answer) -> bool:
    if (wanted.status, wanted.form) != (got.status, got.form):
        return False
    return wanted.body == got.body or _alike(msgspec.json.decode(wanted.body), msgspec.json.decode(got.body))


def _alike(wanted: Any, got: Any) -> bool:
    """Return whether both values have the same types throughout, and floats within the tolerance."""
    if type(wanted) is not type(got):
        return False
    if isinstance(wanted, dict):
        return bool(wanted.keys() == got.keys() and all(_alike(value, got[key]) for key, value in wanted.items()))
    if isinstance(wanted, list):
        return len(wanted) == len(got) and all(map(_alike, wanted, got))
    if isinstance(wanted, float):
        return math.isclose(wanted, got, rel_tol=1e-4, abs_tol=ABSOLUTE * max(1.0, abs(wanted)))
    return bool(wanted == got)


def _cut(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return text if len(text) <= 100 else text[:99] + "…"


def _speedup(original: Adapter, faster: Adapter, rows: RowSet, count: int) -> float:
    inputs = rows.pick([index % rows.rows for index in range(count)])
    return _seconds(lambda: original.predict(inputs, False)) / _seconds(lambda: faster.predict(inputs, False))


def _seconds(call: Callable[[], Any]) -> float:
    """Measure the median duration of some calls, after one warm-up call."""
    call()
    taken: List[float] = []
    began = time.perf_counter()
    while len(taken) < MEASURED_CALLS_MIN or (
        len(taken) < MEASURED_CALLS and time.perf_counter() - began < MEASURED_SECONDS
    ):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return max(1e-9, sorted(taken)[len(taken) // 2])


def _too_slow(speedup: Dict[str, float]) -> str:
    for count, least in LEAST_SPEEDUP.items():
        if speedup[str(count)] < least:
            return f"its ONNX variant is only {speedup[str(count)]:g} times as fast for {count} row{'s'[: count > 1]}"
    return ""
