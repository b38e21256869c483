from __future__ import annotations

from app.dispatch.breaker import FAILURES_TO_OPEN, OPEN_SECONDS, Breaker, State


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.fail(0.0)
    breaker.succeed()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.fail(0.0)
    assert breaker.state(0.0) is State.CLOSED
    breaker.fail(0.0)
    assert breaker.state(0.0) is State.OPEN
    assert not breaker.allows(0.0)


def test_half_open_lets_one_trial_through_and_its_outcome_decides() -> None:
    breaker = Breaker()
    breaker.trip(0.0)
    later = OPEN_SECONDS
    assert breaker.state(later) is State.HALF_OPEN
    assert breaker.allows(later)
    breaker.begin()
    assert not breaker.allows(later), "one trial at a time"
    breaker.fail(later)
    assert breaker.state(later) is State.OPEN
    breaker.begin()
    breaker.succeed()
    assert breaker.state(later) is State.CLOSED
