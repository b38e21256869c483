"""When a replica that was lost may be started again."""

from __future__ import annotations

import pytest

from app.lifecycle.health.backoff import (
    AWAITED_SECONDS,
    STEADY_SECONDS,
    URGENT_MAX_SECONDS,
    RestartState,
    backoff_seconds,
)

LOST_AGAIN = {"by_itself": True, "had_answered": False, "is_last": False}


def lose(watch: RestartState, now: float, **changes: bool) -> float:
    """How long its next start has to wait; it is started then."""
    watch.lost(now, **{**LOST_AGAIN, **changes})
    pause = watch.restart_due - now
    watch.restarted(watch.restart_due)
    return pause


def test_one_that_ends_by_itself_again_and_again_waits_longer_each_time() -> None:
    watch, now, pauses = RestartState(), 1000.0, []
    for _ in range(4):
        pauses.append(lose(watch, now))
        now = watch.restarted_at + 1
    assert pauses == [0, 10, 20, 40]


@pytest.mark.parametrize("killed", [{"by_itself": False}, {"is_last": True}])
def test_one_that_had_answered_and_was_killed_or_is_the_last_is_always_back_at_once(killed: dict[str, bool]) -> None:
    watch, now = RestartState(), 1000.0
    for _ in range(300):
        assert lose(watch, now, had_answered=True, **killed) == 0
        assert watch.awaited
        now = watch.restarted_at + 1


def test_one_that_had_answered_for_a_minute_is_back_at_once_though_it_ended_by_itself() -> None:
    watch, now = RestartState(), 1000.0
    for _ in range(5):
        assert lose(watch, now, had_answered=True) == 0
        now = watch.restarted_at + STEADY_SECONDS


def test_the_last_one_that_never_answers_is_tried_again_soon_and_then_less_and_less_often() -> None:
    watch, now, pauses, awaited = RestartState(), 1000.0, [], []
    for _ in range(9):
        pauses.append(lose(watch, now, is_last=True))
        awaited.append(watch.awaited)
        now = watch.restarted_at + 1
    assert pauses == [0, 1, 2, 4, 8, 16, 32, URGENT_MAX_SECONDS, URGENT_MAX_SECONDS]
    assert awaited == [pause <= AWAITED_SECONDS for pause in pauses], "past that, callers are told at once"


def test_a_start_that_fails_waits_as_long_as_an_end_by_itself() -> None:
    for is_last, first in ((False, 10), (True, 1)):
        watch = RestartState()
        watch.restarted(1000.0)
        watch.start_failed(1001.0, is_last=is_last)
        assert watch.restart_due - 1001.0 == first == backoff_seconds(1, urgent=is_last)
