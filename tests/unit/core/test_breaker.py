from __future__ import annotations

from app.core.breaker import FAILURES_TO_ASK, OPEN_SECONDS, Breaker, State


def test_failures_in_a_row_make_the_sample_due_and_never_open_it() -> None:
    breaker = Breaker()
    assert not any(breaker.fail() for _ in range(FAILURES_TO_ASK - 1))
    breaker.succeed()
    assert not any(breaker.fail() for _ in range(FAILURES_TO_ASK - 1))
    assert breaker.fail()
    assert breaker.state(0.0) is State.CLOSED
    assert breaker.is_closed


def test_it_opens_by_a_trip_and_closes_by_a_success() -> None:
    breaker = Breaker()
    breaker.trip(0.0)
    assert breaker.state(0.0) is State.OPEN
    assert breaker.state(OPEN_SECONDS) is State.HALF_OPEN
    assert not breaker.is_closed, "half-open is for the sample alone"
    breaker.succeed()
    assert breaker.state(OPEN_SECONDS) is State.CLOSED
