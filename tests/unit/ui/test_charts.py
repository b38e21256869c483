"""Charts are geometry: where a line goes, and what it says in words and rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.observe.history import Moment, Step
from app.ui.charts import HEIGHT, WIDTH, by_minute, charts, path_of, rounded_up, span_seconds, spark
from app.ui.figures import significant

FAST = (0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def moments(*requests: int) -> list[Moment]:
    """Steps of 5 s that end now."""
    last = len(requests) - 1
    return [Moment((last - i) * 5.0, Step(5.0, count, latencies=FAST)) for i, count in enumerate(requests)]


def test_a_chart_runs_from_the_oldest_value_at_the_left_to_now_at_the_right() -> None:
    path, area, _ = path_of([(900, 0.0), (450, 5.0), (0, 10.0)], 900, 10)
    assert path == f"M0.0 {HEIGHT:.1f}L{WIDTH / 2:.1f} {HEIGHT / 2:.1f}L{WIDTH:.1f} 0.0"
    assert area.endswith(f"L{WIDTH:.1f} 100Z")


def test_missing_values_are_gaps_and_a_lone_value_is_a_dot() -> None:
    path, _, dots = path_of([(150, 1.0), (140, None), *((ago, 1.0) for ago in range(100, -1, -10))], 150, 1)
    assert path.startswith("M200.0 0.0L")
    assert path.count("M") == 1
    assert dots == "M0.0 0.0h0"


def test_each_of_few_values_is_a_dot() -> None:
    path, _, dots = path_of([(10, None), (5, 1.0), (0, 1.0)], 15, 1)
    assert path == "M400.0 0.0L600.0 0.0"
    assert dots == "M400.0 0.0h0M600.0 0.0h0"


def test_no_value_at_all_draws_nothing() -> None:
    assert path_of([(5, None), (0, None)], 15, 1) == ("", "", "")
    assert path_of([], 15, 1) == ("", "", "")


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.03, 0.05), (1, 1), (1.2, 2), (47, 50), (51, 100), (900, 1000)])
def test_an_axis_ends_on_a_round_number(value: float, top: float) -> None:
    assert rounded_up(value) == pytest.approx(top)


def test_a_chart_covers_the_servers_uptime_up_to_the_kept_time() -> None:
    assert span_seconds(moments(1, 1), 900) == 180
    assert span_seconds([Moment(400, Step())], 900) == 900
    assert span_seconds([], 900) == 180


def test_charts_have_a_summary_and_a_table() -> None:
    rate, latency, errors = charts([Moment(0, Step(5.0, 20, 1, 4, FAST))], 900, "nothing")
    assert rate.now == "4.0/s"
    assert "at most 4.0" in rate.summary
    assert [line.label for line in latency.lines] == ["p95", "p50"]
    assert latency.columns == ("minute", "p95", "p50")
    assert latency.rows[0][1:] == ("4.9 ms", "3.8 ms")
    assert errors.now == "25% of requests"
    assert errors.rows[0][1:] == ("0.8", "0.2")


def test_a_chart_without_requests_says_why_and_draws_no_line() -> None:
    for chart in charts(moments(0, 0), 900, "No request yet."):
        assert (chart.lines, chart.rows, chart.empty, chart.summary) == ((), (), "No request yet.", "No request yet.")


def test_a_sparkline_has_few_points_and_shows_the_last_minute() -> None:
    shown = spark(moments(*[50] * 180), 900, lambda step: step.per_second, lambda value: significant(value or 0))
    assert shown.path.count("L") <= 60
    assert shown.now == "10"
    assert "15 minutes" in shown.summary


def test_rows_are_minutes_of_the_day_with_the_newest_first() -> None:
    now = datetime(2026, 1, 2, 12, 0, 2, tzinfo=UTC)
    found = by_minute(moments(1, 2, 4), now)
    assert [(minute, step.requests) for minute, step in found] == [("12:00", 4), ("11:59", 3)]
