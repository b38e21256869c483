from __future__ import annotations

from app.core.breaker import FAILURES_TO_ASK, OPEN_SECONDS, Breaker, State


def test_consecutive_failures_trigger_the_sample_but_do_not_open_the_circuit() -> None:
    breaker = Breaker()
    assert not any(breaker.fail() for _ in range(FAILURES_TO_ASK - 1))
    breaker.succeed()
    assert not any(breaker.fail() for _ in range(FAILURES_TO_ASK - 1))
    assert breaker.fail()
    assert breaker.state(0.0) is State.CLOSED
    assert breaker.is_closed


def test_a_trip_opens_the_circuit_and_a_success_closes_it() -> None:
    breaker = Breaker()
    breaker.trip(0.0)
    assert breaker.state(0.0) is State.OPEN
    assert breaker.state(OPEN_SECONDS) is State.HALF_OPEN
    assert not breaker.is_closed, "half-open is for the sample alone"
    breaker.succeed()
    assert breaker.state(OPEN_SECONDS) is State.CLOSED
