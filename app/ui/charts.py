"""SVG charts: their geometry, and the same numbers as rows of a table.

A drawing is stretched to fill its space. Its coordinates therefore use a box of WIDTH x HEIGHT, and lines keep their
width by `vector-effect`. Labels are evenly spaced text beside the drawing, because text inside it would be stretched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from app.observe.history import Moment, Step, merged
from app.ui.figures import milliseconds, percent, significant

WIDTH, HEIGHT = 600.0, 100.0
SPARK_POINTS = 60
FEW_POINTS = 6
SPANS_SECONDS = (180.0, 360.0)

Value = Callable[[Step], float | None]


class Line(Struct, frozen=True):
    """One line of a chart. path: its SVG path. area: the same path closed along the axis. dots: its points to mark."""

    label: str
    kind: str
    path: str
    area: str = ""
    dots: str = ""


class Chart(Struct, frozen=True):
    """One chart with its texts. ticks: labels of the vertical axis from the top down to zero, evenly spaced.

    now: the latest value as text. rows: the values minute by minute as text, newest first. empty: why there is nothing
    to show.
    """

    id: str
    title: str
    summary: str
    now: str
    lines: tuple[Line, ...]
    ticks: tuple[str, ...]
    times: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str = ""


class Spark(Struct, frozen=True):
    """Small line in a row of the dashboard, with its latest value as text and a summary for screen readers."""

    path: str
    area: str
    dots: str
    now: str
    summary: str


def span_seconds(moments: Sequence[Moment], kept_seconds: float) -> float:
    """Return how far back a chart reaches: the shortest of the usual spans that contains all moments."""
    oldest = max((moment.ago_seconds for moment in moments), default=0.0)
    return next((span for span in SPANS_SECONDS if oldest <= span < kept_seconds), kept_seconds)


def charts(moments: Sequence[Moment], kept_seconds: float, empty: str) -> tuple[Chart, ...]:
    """Return the charts of one model. empty: text shown instead of lines if there was no request in the kept time."""
    kept_seconds = span_seconds(moments, kept_seconds)
    quiet = empty if not any(moment.step.requests for moment in moments) else ""
    recent = merged([moment.step for moment in moments[-12:]])
    minutes = by_minute(moments)
    drawn = [
        ("rate", "Requests per second", [("requests", "accent", lambda s: s.per_second)], significant),
        (
            "latency",
            "Latency",
            [("p95", "accent", lambda s: s.latency_ms(0.95)), ("p50", "second", lambda s: s.latency_ms(0.5))],
            milliseconds,
        ),
        (
            "errors",
            "Errors per second",
            [
                ("failed (5xx)", "bad", lambda s: s.failed / s.seconds if s.seconds else 0.0),
                ("refused (4xx)", "warn", lambda s: s.refused / s.seconds if s.seconds else 0.0),
            ],
            significant,
        ),
    ]
    now = {
        "rate": f"{significant(recent.per_second)}/s",
        "latency": f"p95 {milliseconds(recent.latency_ms(0.95))}",
        "errors": f"{percent(recent.error_rate)} of requests",
    }
    return tuple(
        chart(name, title, values, format_value, moments, minutes, kept_seconds, now[name], quiet)
        for name, title, values, format_value in drawn
    )


def chart(
    name: str,
    title: str,
    values: Sequence[tuple[str, str, Value]],
    format_value: Callable[[float], str],
    moments: Sequence[Moment],
    minutes: Sequence[tuple[str, Step]],
    kept_seconds: float,
    now: str,
    empty: str,
) -> Chart:
    """Return one chart. values: (label, kind, function that reads the value from a step) of each line."""
    numbers = [value(moment.step) or 0.0 for moment in moments for _, _, value in values]
    top = rounded_up(max(numbers, default=0.0))
    lines = tuple(
        Line(label, kind, *path_of([(m.ago_seconds, value(m.step)) for m in moments], kept_seconds, top))
        for label, kind, value in values
    )
    rows = tuple((time, *(text_or_dash(value(step), format_value) for _, _, value in values)) for time, step in minutes)
    highest = max(numbers, default=0.0)
    return Chart(
        id=name,
        title=title,
        summary=empty
        or f"{title} in the last {kept_seconds / 60:.0f} minutes: now {now}, at most {format_value(highest)}.",
        now=now,
        lines=() if empty else lines,
        ticks=(format_value(top), format_value(top / 2), "0"),
        times=(*(f"−{kept_seconds / 60 * part / 3:g} min" for part in (3, 2, 1)), "now"),
        columns=("minute", *(label for label, _, _ in values)),
        rows=() if empty else rows,
        empty=empty,
    )


def text_or_dash(value: float | None, format_value: Callable[[float], str]) -> str:
    return "–" if value is None else format_value(value)


def spark(
    moments: Sequence[Moment], kept_seconds: float, value: Value, format_value: Callable[[float | None], str]
) -> Spark:
    """Return a line of at most SPARK_POINTS points. Its latest value is that of the last minute."""
    kept_seconds = span_seconds(moments, kept_seconds)
    width = max(1, math.ceil(len(moments) / SPARK_POINTS))
    groups = [moments[start : start + width] for start in range(0, len(moments), width)]
    points = [(group[-1].ago_seconds, value(merged([moment.step for moment in group]))) for group in groups]
    top = rounded_up(max((number or 0.0 for _, number in points), default=0.0))
    path, area, dots = path_of(points, kept_seconds, top)
    now = format_value(value(merged([moment.step for moment in moments[-12:]])))
    return Spark(
        path,
        area,
        dots,
        now,
        f"{now} in the last minute, at most {format_value(top)} in {kept_seconds / 60:.0f} minutes",
    )


def path_of(points: Sequence[tuple[float, float | None]], kept_seconds: float, top: float) -> tuple[str, str, str]:
    """Return (path, closed area, dots) through (seconds ago, value) points in the box.

    A value of None leaves a gap. dots: a mark on each point between two gaps, and on each of FEW_POINTS or fewer.
    """
    runs: list[list[str]] = [[]]
    for ago, value in points:
        if value is None:
            if runs[-1]:
                runs.append([])
            continue
        x = WIDTH * (1 - min(ago, kept_seconds) / kept_seconds)
        y = HEIGHT * (1 - min(1.0, value / top)) if top else HEIGHT
        runs[-1].append(f"{x:.1f} {y:.1f}")
    lines = [run for run in runs if len(run) > 1]
    path = "".join(f"M{'L'.join(run)}" for run in lines)
    area = "".join(f"M{x_of(run[0])} {HEIGHT:g}L{'L'.join(run)}L{x_of(run[-1])} {HEIGHT:g}Z" for run in lines)
    few = sum(map(len, runs)) <= FEW_POINTS
    dots = "".join(f"M{point}h0" for run in runs for point in run if few or len(run) == 1)
    return path, area, dots


def x_of(point: str) -> str:
    return point.partition(" ")[0]


def rounded_up(value: float) -> float:
    """Round up to the next of 1, 2, 5, 10, 20 …, so that an axis ends on a readable number; 1 for zero or less."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value * (1 - 1e-9))


def by_minute(moments: Sequence[Moment], now: datetime | None = None) -> list[tuple[str, Step]]:
    """Return (time of day in UTC, all steps of that minute merged), newest first."""
    at = now or datetime.now(UTC)
    minutes: dict[str, list[Step]] = {}
    for moment in reversed(moments):
        minute = f"{at - timedelta(seconds=moment.ago_seconds):%H:%M}"
        minutes.setdefault(minute, []).append(moment.step)
    return [(minute, merged(steps)) for minute, steps in minutes.items()]
