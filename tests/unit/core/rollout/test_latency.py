"""The bound for late answers, from the stable version's latencies."""

from __future__ import annotations

import pytest

from app.core.rollout.latency import latency_bound
from app.observe.tally import LATENCY_BOUNDS_SECONDS, Histogram


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [
        ([0.004] * 200, 0.01),  # 99th percentile 5 ms at most, so 7.5 ms, so the next bound
        ([0.004] * 199, None),  # too few
        ([0.004] * 990 + [9.0] * 10, 0.01),
        ([0.004] * 989 + [9.0] * 11, None),  # 10 s is the last bound, and 15 s beyond it
        ([0.0005] * 200, 0.0025),
        ([60.0] * 200, None),
        ([0.2] * 1000, 0.5),
    ],
)
def test_the_bound_is_the_first_at_least_one_and_a_half_times_the_99th_percentile(
    seconds: list[float], bound: float | None
) -> None:
    histogram = Histogram(LATENCY_BOUNDS_SECONDS)
    histogram.observe(seconds)
    assert latency_bound(histogram.bounds, histogram.counts) == bound
