"""Charts show what was added to the tallies, step by step, with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.observe.history import History, Step, estimated_quantile, merged
from app.observe.tally import LATENCY_BOUNDS_SECONDS, Histogram, ModelCounters
from tests.fakes import eventually


class Road:
    """A clock, and tallies that a test adds to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.tallies: dict[str, ModelCounters] = {}
        self.history = History(self.tallies, clock=lambda: self.now, step_seconds=5, kept_seconds=60)

    def answer(self, model_id: str, *statuses: int, seconds: float = 0.004) -> None:
        tally = self.tallies.setdefault(model_id, ModelCounters())
        tally.count(statuses)
        tally.latency.observe([seconds] * len(statuses))

    def step(self, seconds: float = 5.0) -> None:
        self.now += seconds
        self.history.look()


@pytest.fixture
def road() -> Road:
    return Road()


def test_a_step_holds_the_requests_since_the_previous_step(road: Road) -> None:
    road.answer("a", 200, 200)
    road.step()
    road.answer("a", 200, 422, 500, 503)
    road.step()
    first, second = (moment.step for moment in road.history.moments("a"))
    assert (first.requests, first.refused, first.failed) == (2, 0, 0)
    assert (second.requests, second.refused, second.failed) == (4, 1, 2)
    assert second.error_rate == 0.75


def test_the_rate_is_by_the_time_that_really_passed(road: Road) -> None:
    road.answer("a", *[200] * 40)
    road.step(seconds=8.0)
    assert road.history.moments("a")[0].step.per_second == 5.0


def test_a_quiet_step_is_there_and_empty(road: Road) -> None:
    road.answer("a", 200)
    road.step()
    road.step()
    road.answer("a", 200)
    road.step()
    assert [moment.step.requests for moment in road.history.moments("a")] == [1, 0, 1]
    assert road.history.moments("a")[1].step.latency_ms(0.95) is None
    assert [moment.ago_seconds for moment in road.history.moments("a")] == [10.0, 5.0, 0.0]


def test_a_model_without_traffic_has_quiet_steps_and_takes_no_room(road: Road) -> None:
    road.tallies["idle"] = ModelCounters()
    road.step()
    assert [moment.step.requests for moment in road.history.moments("idle")] == [0]
    assert road.history.recent("idle") == Step(5.0)


def test_only_the_kept_time_is_kept(road: Road) -> None:
    for number in range(30):
        road.answer("a", *[200] * (number + 1))
        road.step()
    kept = [moment.step.requests for moment in road.history.moments("a")]
    assert kept == list(range(19, 31))


def test_requests_before_the_kept_time_are_forgotten_even_without_new_traffic(road: Road) -> None:
    road.answer("a", 200)
    for _ in range(13):
        road.step()
    assert not any(moment.step.requests for moment in road.history.moments("a"))


def test_a_model_that_is_gone_is_forgotten_and_one_that_comes_back_starts_anew(road: Road) -> None:
    road.answer("a", *[200] * 9)
    road.step()
    del road.tallies["a"]
    road.step()
    road.answer("a", 200)
    road.step()
    assert [moment.step.requests for moment in road.history.moments("a")] == [0, 0, 1]


def test_the_recent_time_is_one_step_of_all_its_requests(road: Road) -> None:
    road.answer("a", 500, seconds=9)
    road.step()
    for _ in range(2):
        road.answer("a", 200, 404, seconds=0.004)
        road.step()
    recent = road.history.recent("a", seconds=10)
    assert (recent.seconds, recent.requests, recent.refused, recent.failed) == (10.0, 4, 2, 0)
    assert recent.latency_ms(0.95) == pytest.approx(4.875)  # within the bucket from 2.5 to 5 ms


def test_merging_no_steps_gives_an_empty_step() -> None:
    assert merged([]) == Step(0)
    assert merged([]).per_second == 0


@given(st.lists(st.floats(0, 9.9), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_an_estimate_is_off_by_no_more_than_its_bucket(seconds: list[float], quantile: float) -> None:
    histogram = Histogram(LATENCY_BOUNDS_SECONDS)
    histogram.observe(seconds)
    estimate = estimated_quantile(histogram.counts, quantile)
    real = sorted(seconds)[max(0, -int(-quantile * len(seconds) // 1) - 1)]
    upper = min(bound for bound in LATENCY_BOUNDS_SECONDS if bound >= real)
    lower = max((bound for bound in (0.0, *LATENCY_BOUNDS_SECONDS) if bound < upper), default=0.0)
    assert estimate is not None
    assert lower <= estimate <= upper


def test_latencies_beyond_every_bucket_count_in_the_last() -> None:
    histogram = Histogram(LATENCY_BOUNDS_SECONDS)
    histogram.observe([60.0])
    assert estimated_quantile(histogram.counts, 0.5) == LATENCY_BOUNDS_SECONDS[-1]
    assert estimated_quantile([], 0.5) is None


async def test_the_recorder_takes_steps_until_it_is_closed() -> None:
    tallies = {"a": ModelCounters()}
    history = History(tallies, step_seconds=0.01, kept_seconds=1)
    history.begin()
    tallies["a"].count([200])
    await eventually(lambda: bool(history.recent("a", 1).requests))
    await history.end()
