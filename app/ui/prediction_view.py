"""A prediction's answer as its page shows it: a table of rows, and each row's class probabilities as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from app.ui.field_values import compact_json
from app.ui.figures import percent

MAX_ROWS = 100
MAX_ROWS_WITH_BARS = 20
MAX_BARS = 20
MAX_BARS_OF_A_FILE = 5
LONGEST_CELL = 240


class Bar(Struct, frozen=True):
    """Bar of one class. width: in percent, from 0 to 100."""

    label: str
    width: float
    percent: str


class Bars(Struct, frozen=True):
    """Bars of one output. title: its name if there are several outputs.

    hidden: how many less likely classes are left out.
    """

    title: str
    bars: Sequence[Bar]
    hidden: int


class Row(Struct, frozen=True):
    """Row of the table. cells: one for each column of the view."""

    number: int
    cells: Sequence[str]
    bars: Sequence[Bars]


class PredictionView(Struct, frozen=True):
    """Answer to show. columns: names of the outputs. hidden_rows: how many rows are left out.

    raw: the whole answer as JSON.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    hidden_rows: int
    raw: str

    @property
    def single(self) -> bool:
        """Whether the answer is a single value."""
        return len(self.rows) == 1 and len(self.columns) == 1 and not self.hidden_rows


def prediction_view(answer: dict[str, Any], of_files: bool = False) -> PredictionView:
    """Build the view of an answer in PRISM's native dialect.

    of_files: the input was an image or a sound, for which a list of numbers is a score for each class; the best few are shown.
    """
    predictions = answer.get("predictions", [])
    classes, shares = answer.get("classes") or [], answer.get("probabilities") or []
    if of_files and not shares and predictions and all(map(_are_scores, predictions)):
        return _scores_view(answer, predictions)
    columns = columns_of(predictions)
    most = MAX_BARS_OF_A_FILE if of_files else MAX_BARS
    rows = []
    for index, prediction in enumerate(predictions[:MAX_ROWS]):
        of_row = shares[index] if index < len(shares) and len(predictions) <= MAX_ROWS_WITH_BARS else None
        rows.append(Row(index, cells_of(prediction, columns), bars_of(of_row, classes, most)))
    raw = compact_json(answer)
    return PredictionView(columns or ("prediction",), rows, max(0, len(predictions) - MAX_ROWS), raw)


def _are_scores(prediction: Any) -> bool:
    return isinstance(prediction, list) and len(prediction) > 1 and all(map(_is_share, prediction))


def _scores_view(answer: dict[str, Any], predictions: Sequence[Sequence[float]]) -> PredictionView:
    """Build the view of scores: the class with the highest of each row, and the best few as bars."""
    rows = []
    for index, scores in enumerate(predictions[:MAX_ROWS]):
        best = cell(max(range(len(scores)), key=scores.__getitem__))
        rows.append(Row(index, (best,), (_score_bars(scores),) if len(predictions) <= MAX_ROWS_WITH_BARS else ()))
    hidden = max(0, len(predictions) - MAX_ROWS)
    return PredictionView(("class with the highest score",), rows, hidden, compact_json(answer))


def _score_bars(scores: Sequence[float]) -> Bars:
    """Return bars as wide as the shares if the scores add up to 1; otherwise from the lowest to the highest score."""
    if min(scores) >= 0 and math.isclose(sum(scores), 1, abs_tol=0.01):
        return _bars("", scores, (), MAX_BARS_OF_A_FILE)
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[:MAX_BARS_OF_A_FILE]
    bars = [Bar(str(index), round(100 * (scores[index] - low) / span, 2), f"{scores[index]:.4g}") for index in best]
    return Bars("Scores", bars, len(scores) - len(bars))


def columns_of(predictions: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the outputs if every prediction is an object with the same names; otherwise none."""
    first = predictions[0] if predictions else None
    if (
        isinstance(first, dict)
        and first
        and all(isinstance(prediction, dict) and prediction.keys() == first.keys() for prediction in predictions)
    ):
        return tuple(first)
    return ()


def cells_of(prediction: Any, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell(prediction[name]) for name in columns) if columns else (cell(prediction),)


def cell(value: Any) -> str:
    """Format a value for a table cell. A value that is too long is cut, followed by its length."""
    text = value if isinstance(value, str) else compact_json(value)
    if len(text) <= LONGEST_CELL:
        return text
    rest = f"{count_of(value):,} values" if isinstance(value, (list, dict)) else f"{len(text):,} characters"
    return f"{text[:LONGEST_CELL]}… ({rest})"


def count_of(value: Any) -> int:
    """Count the scalar values in a value, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    return sum(count_of(item) for item in value) if isinstance(value, list) else 1


def bars_of(shares: Any, classes: Sequence[Any], most: int = MAX_BARS) -> tuple[Bars, ...]:
    """Return the bars of one row: one group per output if the model has several outputs, each with its own classes."""
    if not isinstance(shares, list) or not shares:
        return ()
    if all(isinstance(of_output, list) for of_output in shares):
        each = [classes[index] if index < len(classes) else () for index in range(len(shares))]
        return tuple(
            _bars(f"Output {index + 1}", of_output, of_classes if isinstance(of_classes, list) else (), most)
            for index, (of_output, of_classes) in enumerate(zip(shares, each, strict=True))
        )
    return (_bars("", shares, classes, most),)


def _bars(title: str, shares: Sequence[Any], classes: Sequence[Any], most: int) -> Bars:
    labels = (
        [cell(label) for label in classes] if len(classes) == len(shares) else [str(at) for at in range(len(shares))]
    )
    ordered = sorted(zip(shares, labels, strict=True), key=lambda pair: -_share(pair[0]))
    bars = [
        Bar(label, round(100 * _share(share), 2), percent(share) if _is_share(share) else cell(share))
        for share, label in ordered[:most]
    ]
    return Bars(title, bars, max(0, len(shares) - most))


def _is_share(share: Any) -> bool:
    return isinstance(share, (int, float)) and math.isfinite(share)


def _share(share: Any) -> float:
    """Clamp a model's probability to the range from 0 to 1; 0 if it is no finite number."""
    return min(1.0, max(0.0, float(share))) if _is_share(share) else 0.0


def timings_of(server_timing: str) -> dict[str, float]:
    """Return the durations of a Server-Timing header in ms, by name."""
    durations = {}
    for entry in server_timing.split(","):
        name, *members = (part.strip() for part in entry.split(";"))
        for member in members:
            key, _, value = member.partition("=")
            if key == "dur" and value.replace(".", "", 1).isdigit():
                durations[name] = float(value)
    return durations
