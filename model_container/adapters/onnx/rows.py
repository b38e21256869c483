"""Whether rows of several requests may go through one call of a graph: tried out, when it is loaded.

A first dimension of any size may be a batch, or a sentence, or the nodes of a net, and a graph may compute across it
even where it is a batch (a softmax over the wrong axis, a mean, the scale of a dynamic quantisation). So two made-up
requests are run apart and joined, and only what answers the same both ways is joined from then on. That is evidence,
not a proof for all inputs; what cannot be tried is not joined.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_container.adapters.onnx.ports import MAPS, TENSOR, Port
from model_container.bodies.values import DTYPES

MAX_TRIED_VALUES = 1 << 20
SLOW_ROW_SECONDS = 1.0
"""Rows that take so long gain nothing by being joined, and trying them would delay the start."""
SECOND_ROUND_BELOW_SECONDS = 0.5

_PARTS = (2, 3)
"""Rows of the two requests. More than one each, so that a row shows what neighbours before and after do to it."""
_INNER_SIZES = (2, 1, 32, 224)
"""Tried for inner dimensions of any size: for a text any will do, a net for images needs room."""
_HIGHS = (9, 1)
"""Largest whole numbers tried: often they are indices into something."""
_MAGNITUDES = (1.0, 10.0, 100.0)
_TOLERANCES = {"FP16": 2e-3, "BF16": 2e-2, "FP64": 1e-9}
_TOLERANCE = 1e-4
"""Beside the largest number of the row, or of the median row: BLAS multiplies few rows by another routine than many. Times the magnitude,
for large numbers make more of such last bits (a softmax of thousands)."""

Run = Callable[[List[Any]], List[Any]]
"""Arrays of the inputs to the values of the outputs; raises whatever the graph's run raises."""


class Rows(NamedTuple):
    """by_row: whether each output has one item a row of input; None: not known, each answer's own length tells.

    inner_size: for inner dimensions of any size, one that the graph takes.
    """

    joinable: bool
    by_row: Optional[bool]
    inner_size: int = 1


def probe_batching(run: Run, inputs: Sequence[Port], outputs: Sequence[Port]) -> Rows:
    """Costs two dozen rows of prediction where the first dimensions are free, one where only inner ones are."""
    told = _told(inputs, outputs)
    if any(one.kind not in (TENSOR, MAPS) for one in (*inputs, *outputs)):
        return Rows(False, False)
    joinable = bool(inputs) and all(one.is_joinable for one in inputs) and not _is_square(inputs)
    if not joinable and not any(None in one.shape[1:] for one in inputs):
        return Rows(False, told)
    for inner_size, high in _attempts(inputs):
        draw = _Draw(inputs, inner_size, high)
        try:
            if _seconds(run, draw) > SLOW_ROW_SECONDS or not joinable:
                return Rows(False, told, inner_size)
            found = _compare(run, draw, outputs)
        except Exception:  # the graph does not take what was made up; what it would say to it interests nobody
            continue
        if found is not None:
            return found._replace(inner_size=inner_size)
    return Rows(False, told)


def _told(inputs: Sequence[Port], outputs: Sequence[Port]) -> Optional[bool]:
    """False if the graph's own names for the first dimensions say that outputs go by something else than rows."""
    first = inputs[0].symbols[0] if inputs and inputs[0].symbols else None
    if isinstance(first, str) and any(one.symbols and one.symbols[0] not in (first, None) for one in outputs):
        return False
    return None


def _is_square(inputs: Sequence[Port]) -> bool:
    """Whether a first dimension comes again as an inner one: rows of two such inputs do not fit together."""
    firsts = {one.symbols[0] for one in inputs} - {None}
    return any(symbol in firsts for one in inputs for symbol in one.symbols[1:])


def _attempts(inputs: Sequence[Port]) -> Iterator[Tuple[int, int]]:
    has_free = any(None in one.shape[1:] for one in inputs)
    has_indices = any("INT" in one.datatype for one in inputs)
    for inner_size in _INNER_SIZES if has_free else (1,):
        count = sum(int(np.prod([inner_size if size is None else size for size in one.shape[1:]])) for one in inputs)
        if count * sum(_PARTS) <= MAX_TRIED_VALUES:
            yield from ((inner_size, high) for high in (_HIGHS if has_indices else _HIGHS[:1]))


def _seconds(run: Run, draw: _Draw) -> float:
    """Of one row. The first run prepares what later ones find done, so a slow one is not believed."""
    row, seconds = draw.part(1, 1.0), 0.0
    for _ in range(2):
        began = time.monotonic()
        run(row)
        seconds = time.monotonic() - began
        if seconds <= SLOW_ROW_SECONDS:
            break
    return seconds


class _Draw:
    """Made-up requests, the same at every start."""

    def __init__(self, inputs: Sequence[Port], inner_size: int, high: int) -> None:
        self._inputs = inputs
        self._inner_size = inner_size
        self._high = high
        self._random = np.random.RandomState(0)

    def part(self, rows: int, magnitude: float) -> List[Any]:
        """Two rows: small positive numbers and large ones. Three: one of numbers about zero, two of zeros."""
        return [self._array(one, rows, magnitude) for one in self._inputs]

    def _array(self, one: Port, rows: int, magnitude: float) -> Any:
        shape = tuple(self._inner_size if size is None else size for size in one.shape[1:])
        if one.shape and one.shape[0] is not None:
            rows = one.shape[0]
        shape = (rows, *shape) if one.shape else (1,)
        if one.datatype == "BYTES":
            return self._random.choice(np.array(["0", "1", "2"], dtype=object), shape)
        if one.datatype == "BOOL":
            return self._random.randint(0, 2, shape).astype(np.bool_)
        if "INT" in one.datatype:
            return self._random.randint(0, self._high + 1, shape).astype(DTYPES[one.datatype])
        array = self._random.normal(size=shape) * magnitude
        if rows == _PARTS[0]:
            array[0] = np.abs(array[0]) / magnitude
        if rows == _PARTS[1]:
            array[1:] = 0  # two equal rows, for what drops zeros or keeps equal rows only once
        return array.astype(DTYPES[one.datatype])


def _compare(run: Run, draw: _Draw, outputs: Sequence[Port]) -> Optional[Rows]:
    """None if nothing can be learnt from the answers, because all rows have the same. Raises what `run` raises."""
    began = time.monotonic()
    varied = False
    for magnitude in _MAGNITUDES:
        parts = [draw.part(rows, magnitude) for rows in _PARTS]
        answers = [run(part) for part in parts]
        if not all(_length(value) == rows for rows, values in zip(_PARTS, answers) for value in values):
            return Rows(False, False)
        try:
            joined = run([np.concatenate(arrays) for arrays in zip(*parts)])
        except Exception:  # whatever it is, the two requests alone did not have it
            return Rows(False, True)
        apart = [_concatenated(list(values)) for values in zip(*answers)]
        for one, other, port in zip(joined, apart, outputs):
            if not _is_same(one, other, magnitude * _TOLERANCES.get(port.datatype, _TOLERANCE)):
                return Rows(False, True)
        varied = varied or any(map(_varies, joined))
        if time.monotonic() - began > SECOND_ROUND_BELOW_SECONDS:
            break
    return Rows(True, True) if varied else None


def _length(value: Any) -> Optional[int]:
    return None if isinstance(value, np.ndarray) and not value.ndim else len(value)


def _concatenated(values: List[Any]) -> Any:
    """Raises ValueError if inner dimensions differ."""
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else [item for value in values for item in value]


def _is_same(joined: Any, apart: Any, tolerance: float) -> bool:
    if isinstance(joined, list):
        if [one.keys() for one in joined] != [one.keys() for one in apart]:
            return False
        joined, apart = (np.array([list(one.values()) for one in some]) for some in (joined, apart))
    if joined.shape != apart.shape:
        return False
    if joined.dtype.kind != "f" or not joined.size:
        return bool(np.array_equal(joined, apart))
    one, other = (array.astype(np.float64).reshape(len(array), -1) for array in (joined, apart))
    finite = np.isfinite(other)
    scale = np.max(np.abs(np.where(finite, other, 0)), axis=1, keepdims=True)
    scale = np.maximum(scale, np.median(scale))  # a row of one small number may be the rest of large ones
    with np.errstate(invalid="ignore"):
        near = np.abs(one - other) <= tolerance * scale
    return bool(np.all(near | (one == other) | (np.isnan(one) & np.isnan(other))))


def _varies(value: Any) -> bool:
    return any(not _is_same(value[row : row + 1], value[:1], 0.0) for row in range(1, len(value)))
