"""Probe at load time: whether rows of several requests may share one call of a graph.

A first dimension of any size may be a batch, but also a sentence or the nodes of a graph. Even for a batch, a graph may
compute across rows (a softmax over the wrong axis, a mean, the scale of a dynamic quantisation). Two made-up requests
are therefore run apart and joined, and requests are joined only if both ways give the same answers. That is evidence,
not a proof for all inputs. A graph that cannot be probed is never joined.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_container.adapters.onnx.ports import MAPS, TENSOR, Port
from model_container.bodies.values import DTYPES

MAX_TRIED_VALUES = 1 << 20
SLOW_ROW_SECONDS = 1.0
"""Duration above which a row gains nothing from joining; probing such a graph would also delay the start."""
SECOND_ROUND_BELOW_SECONDS = 0.5

_PARTS = (2, 3)
"""Rows of the two requests. Each has more than one, so that effects of neighbouring rows on both sides are seen."""
_INNER_SIZES = (2, 1, 32, 224)
"""Sizes tried for inner dimensions of any size: any size suits a text, an image network needs larger ones."""
_HIGHS = (9, 1)
"""Largest integers tried, since integers are often indices."""
_MAGNITUDES = (1.0, 10.0, 100.0)
_TOLERANCES = {"FP16": 2e-3, "BF16": 2e-2, "FP64": 1e-9}
_TOLERANCE = 1e-4
"""Tolerance relative to the largest number of the row or of the median row, because BLAS uses different routines for
few and many rows. It is multiplied by the magnitude, because large numbers amplify such differences in the last bits (a
softmax of thousands).
"""

Run = Callable[[List[Any]], List[Any]]
"""Function from the inputs' arrays to the outputs' values; it raises whatever the graph's run raises."""


class Rows(NamedTuple):
    """Result of the probe.

    by_row: whether each output has one item per row of input; None if unknown, so that each answer's own length
    decides. inner_size: a size that the graph accepts for inner dimensions of any size.
    """

    joinable: bool
    by_row: Optional[bool]
    inner_size: int = 1


def probe_batching(run: Run, inputs: Sequence[Port], outputs: Sequence[Port]) -> Rows:
    """Probe a graph. It predicts two dozen rows if the first dimensions are free, one row if only inner ones are."""
    by_row = _by_row(inputs, outputs)
    if any(port.kind not in (TENSOR, MAPS) for port in (*inputs, *outputs)):
        return Rows(False, False)
    joinable = bool(inputs) and all(port.is_joinable for port in inputs) and not _is_square(inputs)
    if not joinable and not any(None in port.shape[1:] for port in inputs):
        return Rows(False, by_row)
    for inner_size, high in _attempts(inputs):
        draw = _Draw(inputs, inner_size, high)
        try:
            if _seconds(run, draw) > SLOW_ROW_SECONDS or not joinable:
                return Rows(False, by_row, inner_size)
            result = _compare(run, draw, outputs)
        except Exception:  # the graph refuses the made-up input; the error does not matter
            continue
        if result is not None:
            return result._replace(inner_size=inner_size)
    return Rows(False, by_row)


def _by_row(inputs: Sequence[Port], outputs: Sequence[Port]) -> Optional[bool]:
    """Return False if the graph's names for first dimensions show that outputs do not go by rows, otherwise None."""
    first = inputs[0].symbols[0] if inputs and inputs[0].symbols else None
    if isinstance(first, str) and any(port.symbols and port.symbols[0] not in (first, None) for port in outputs):
        return False
    return None


def _is_square(inputs: Sequence[Port]) -> bool:
    """Return whether a first dimension also occurs as an inner one: rows of two such inputs cannot be joined."""
    firsts = {port.symbols[0] for port in inputs} - {None}
    return any(symbol in firsts for port in inputs for symbol in port.symbols[1:])


def _attempts(inputs: Sequence[Port]) -> Iterator[Tuple[int, int]]:
    has_free = any(None in port.shape[1:] for port in inputs)
    has_indices = any("INT" in port.datatype for port in inputs)
    for inner_size in _INNER_SIZES if has_free else (1,):
        count = sum(int(np.prod([inner_size if size is None else size for size in port.shape[1:]])) for port in inputs)
        if count * sum(_PARTS) <= MAX_TRIED_VALUES:
            yield from ((inner_size, high) for high in (_HIGHS if has_indices else _HIGHS[:1]))


def _seconds(run: Run, draw: _Draw) -> float:
    """Measure one row. The first run includes one-time preparation, so a slow first run is repeated."""
    row, seconds = draw.part(1, 1.0), 0.0
    for _ in range(2):
        began = time.monotonic()
        run(row)
        seconds = time.monotonic() - began
        if seconds <= SLOW_ROW_SECONDS:
            break
    return seconds


class _Draw:
    """Generator of made-up requests, the same at every start."""

    def __init__(self, inputs: Sequence[Port], inner_size: int, high: int) -> None:
        self._inputs = inputs
        self._inner_size = inner_size
        self._high = high
        self._random = np.random.RandomState(0)

    def part(self, rows: int, magnitude: float) -> List[Any]:
        """Draw a request.

        With two rows, one has small positive numbers and one large numbers. With three rows, one has numbers around
        zero and two have only zeros.
        """
        return [self._array(port, rows, magnitude) for port in self._inputs]

    def _array(self, port: Port, rows: int, magnitude: float) -> Any:
        shape = tuple(self._inner_size if size is None else size for size in port.shape[1:])
        if port.shape and port.shape[0] is not None:
            rows = port.shape[0]
        shape = (rows, *shape) if port.shape else (1,)
        if port.datatype == "BYTES":
            return self._random.choice(np.array(["0", "1", "2"], dtype=object), shape)
        if port.datatype == "BOOL":
            return self._random.randint(0, 2, shape).astype(np.bool_)
        if "INT" in port.datatype:
            return self._random.randint(0, self._high + 1, shape).astype(DTYPES[port.datatype])
        array = self._random.normal(size=shape) * magnitude
        if rows == _PARTS[0]:
            array[0] = np.abs(array[0]) / magnitude
        if rows == _PARTS[1]:
            array[1:] = 0  # two equal rows, to catch graphs that drop zeros or duplicate rows
        return array.astype(DTYPES[port.datatype])


def _compare(run: Run, draw: _Draw, outputs: Sequence[Port]) -> Optional[Rows]:
    """Compare joined and separate runs. None if the answers prove nothing, because all rows have the same answer.

    Raises what `run` raises.
    """
    began = time.monotonic()
    varied = False
    for magnitude in _MAGNITUDES:
        parts = [draw.part(rows, magnitude) for rows in _PARTS]
        answers = [run(part) for part in parts]
        if not all(_length(value) == rows for rows, values in zip(_PARTS, answers) for value in values):
            return Rows(False, False)
        try:
            joined = run([np.concatenate(arrays) for arrays in zip(*parts)])
        except Exception:  # any error: the two requests alone ran without it
            return Rows(False, True)
        apart = [_concatenated(list(values)) for values in zip(*answers)]
        for first, second, port in zip(joined, apart, outputs):
            if not _is_same(first, second, magnitude * _TOLERANCES.get(port.datatype, _TOLERANCE)):
                return Rows(False, True)
        varied = varied or any(map(_varies, joined))
        if time.monotonic() - began > SECOND_ROUND_BELOW_SECONDS:
            break
    return Rows(True, True) if varied else None


def _length(value: Any) -> Optional[int]:
    return None if isinstance(value, np.ndarray) and not value.ndim else len(value)


def _concatenated(values: List[Any]) -> Any:
    """Concatenate values. Raises ValueError if inner dimensions differ."""
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else [item for value in values for item in value]


def _is_same(joined: Any, apart: Any, tolerance: float) -> bool:
    if isinstance(joined, list):
        if [row.keys() for row in joined] != [row.keys() for row in apart]:
            return False
        joined, apart = (np.array([list(row.values()) for row in some]) for some in (joined, apart))
    if joined.shape != apart.shape:
        return False
    if joined.dtype.kind != "f" or not joined.size:
        return bool(np.array_equal(joined, apart))
    first, second = (array.astype(np.float64).reshape(len(array), -1) for array in (joined, apart))
    finite = np.isfinite(second)
    scale = np.max(np.abs(np.where(finite, second, 0)), axis=1, keepdims=True)
    scale = np.maximum(scale, np.median(scale))  # a small number may be the remainder of large ones
    with np.errstate(invalid="ignore"):
        near = np.abs(first - second) <= tolerance * scale
    return bool(np.all(near | (first == second) | (np.isnan(first) & np.isnan(second))))


def _varies(value: Any) -> bool:
    return any(not _is_same(value[row : row + 1], value[:1], 0.0) for row in range(1, len(value)))
