"""Rows on which two variants of a model are compared: across the features' ranges, and at its decision thresholds."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from model_container.adapters.base import Inputs
from model_container.bodies.table import Table
from model_container.conversion.trees import NotConvertible, ensemble_of

DRAWN_ROWS = 2048
THRESHOLD_ROWS = 2000
KNOWN_ROWS = 500
_SPAN = 3.0
_SEED = 20
_ABSURD = 1e30  # LightGBM writes 1e300 for infinity where a split separates missing values from all others

# Fitted attributes whose rows lie within the range of the training data.
_KNOWN = ("_fit_X", "support_vectors_", "theta_", "cluster_centers_", "data_min_", "data_max_", "mean_", "center_")


class RowSet(NamedTuple):
    """Rows to compare on. columns: one array each, numbers or strings, of equal length.

    is_matrix: whether the model takes one matrix of doubles.
    """

    columns: List[Any]
    is_matrix: bool

    @property
    def width(self) -> int:
        return len(self.columns)

    @property
    def rows(self) -> int:
        return len(self.columns[0])

    @property
    def number_columns(self) -> List[int]:
        return [index for index, column in enumerate(self.columns) if column.dtype.kind == "f"]

    def pick(self, positions: Sequence[int]) -> Inputs:
        return self._inputs([column[list(positions)] for column in self.columns])

    def all(self) -> Inputs:
        return self._inputs(self.columns)

    def with_values(self, columns: Sequence[int], value: float) -> Inputs:
        """Return one row for each of these columns, with the value in that column."""
        picked = [column[[0] * max(1, len(columns))].copy() for column in self.columns]
        for row, column in enumerate(columns):
            picked[column][row] = value
        return self._inputs(picked)

    def with_gaps(self, columns: Sequence[int], share: float) -> RowSet:
        """Return the same rows with a share of these columns' values missing."""
        rng = np.random.default_rng(_SEED)
        changed = list(self.columns)
        for column in columns:
            changed[column] = np.where(rng.random(self.rows) < share, math.nan, self.columns[column])
        return RowSet(changed, self.is_matrix)

    def _inputs(self, columns: List[Any]) -> Inputs:
        return Inputs([np.column_stack(columns)]) if self.is_matrix else Inputs(columns)


def rows_for(model: Any, signature: Dict[str, Any], table: Table) -> RowSet:
    """Draw the rows. Deterministic: the same model is always compared on the same rows."""
    rng = np.random.default_rng(_SEED)
    width = len(table.columns)
    numbers = all(column.datatype == "FP64" for column in table.columns)
    known = _known_rows(model, width) if numbers else np.zeros((0, width))
    low, high = _ranges(known, width)
    drawn = low + rng.random((DRAWN_ROWS, width)) * (high - low)
    # Whole numbers produce ties, which measured values never have.
    drawn[::3] = np.round(drawn[::3])
    matrix = np.concatenate([drawn, _near_thresholds(model, drawn, rng) if numbers else drawn[:0], known])
    columns: List[Any] = []
    for index, port in enumerate(signature["inputs"]):
        if port["choices"]:
            kind = object if isinstance(port["choices"][0], str) else np.float64
            columns.append(rng.choice(np.array(port["choices"], dtype=kind), len(matrix)))
        elif port["datatype"] == "BYTES":
            raise NotConvertible(f"column {port['name']!r} takes any text, so no rows can be drawn to compare on")
        else:
            columns.append(matrix[:, index])
    return RowSet(columns, table.uniform)


def _ranges(known: Any, width: int) -> Tuple[Any, Any]:
    """Return the features' ranges: a quarter wider than the known training data, or ±3 as for standardised features."""
    if not len(known):
        return np.full(width, -_SPAN), np.full(width, _SPAN)
    low, high = known.min(axis=0), known.max(axis=0)
    margin = np.where(high > low, (high - low) / 4, np.maximum(1.0, np.abs(low)))
    return low - margin, high + margin


def _known_rows(model: Any, width: int) -> Any:
    """Collect rows of the model's input from what its parts kept of training, mapped back through earlier steps."""
    blocks = []
    for part, back in _parts(model, []):
        for rows in _rows_of(part):
            rows = _seen_back(rows, back)
            if rows is not None and rows.ndim == 2 and rows.shape[1] == width:
                blocks.append(rows)
    rows = np.concatenate(blocks) if blocks else np.zeros((0, width))
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows[:: max(1, len(rows) // KNOWN_ROWS)].astype(np.float64)


def _parts(model: Any, back: List[Any]) -> Iterator[Tuple[Any, List[Any]]]:
    """Yield each part that can be mapped back to the input, with the steps before it."""
    if getattr(model, "best_estimator_", None) is not None:
        yield from _parts(model.best_estimator_, back)
        return
    if not isinstance(getattr(model, "steps", None), list):
        yield model, back
        return
    for _, step in model.steps:
        if step in (None, "passthrough"):
            continue
        yield from _parts(step, back)
        if not callable(getattr(step, "inverse_transform", None)):
            return
        back = [*back, step]


def _seen_back(rows: Any, steps: List[Any]) -> Any:
    """Map rows inside a pipeline back to rows of its input; None if a step cannot be inverted."""
    try:
        for step in reversed(steps):
            rows = step.inverse_transform(rows)
    except Exception:  # libraries raise errors of their own
        return None
    return rows


def _rows_of(part: Any) -> Iterator[Any]:
    for name in _KNOWN:
        try:
            value = getattr(part, name, None)
        except Exception:  # properties of foreign objects may raise any error
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim in (1, 2):
            yield np.atleast_2d(value)
    mean, scale = getattr(part, "mean_", None), getattr(part, "scale_", None)
    if isinstance(mean, np.ndarray) and isinstance(scale, np.ndarray) and mean.shape == scale.shape:
        yield np.stack([mean - _SPAN * scale, mean + _SPAN * scale])
    bounds = _threshold_bounds(part)
    if bounds is not None:
        yield bounds


def _thresholds(part: Any) -> List[Tuple[int, float]]:
    """Return (feature, threshold) of an ensemble's nodes."""
    try:
        ensemble = ensemble_of(part)
    except NotConvertible:
        return []
    if ensemble is None:
        members = getattr(part, "estimators_", None)
        trees = (
            [member.tree_ for member in np.ravel(members) if hasattr(member, "tree_")] if members is not None else []
        )
        pairs = [(tree.feature[tree.children_left >= 0], tree.threshold[tree.children_left >= 0]) for tree in trees]
    else:
        pairs = [(tree.feature[tree.left >= 0], tree.threshold[tree.left >= 0]) for tree in ensemble.trees]
    return [(int(f), float(t)) for features, values in pairs for f, t in zip(features, values) if abs(t) < _ABSURD]


def _threshold_bounds(part: Any) -> Any:
    pairs = _thresholds(part)
    if not pairs:
        return None
    width = getattr(part, "n_features_in_", max(feature for feature, _ in pairs) + 1)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for feature, value in pairs:
        low[feature], high[feature] = min(low[feature], value), max(high[feature], value)
    unused = ~np.isfinite(low)
    low[unused], high[unused] = -1.0, 1.0
    return np.stack([low, high])


def _near_thresholds(model: Any, drawn: Any, rng: Any) -> Any:
    """Return rows on a tree's threshold, and just beside it by one double and by one float32."""
    blocks = []
    for part, back in _parts(model, []):
        pairs = _thresholds(part)
        if not pairs:
            continue
        inner = drawn
        for step in back:
            inner = step.transform(inner)
        picked = rng.integers(0, len(pairs), THRESHOLD_ROWS)
        rows = np.array(inner[rng.integers(0, len(inner), THRESHOLD_ROWS)], dtype=np.float64)
        for row, (feature, value) in enumerate(pairs[index] for index in picked):
            narrow = np.float32(value)
            beside = (value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf), narrow)
            further = (np.nextafter(narrow, np.float32(np.inf)), np.nextafter(narrow, np.float32(-np.inf)))
            rows[row, feature] = (*beside, *further)[row % 6]
        seen = _seen_back(rows, back)
        if seen is not None:
            blocks.append(seen)
    return np.concatenate(blocks) if blocks else drawn[:0]
