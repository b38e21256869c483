from __future__ import annotations

from random import Random

import pytest

from app.core.rollout.experiment import (
    RATIO_OFF_AT,
    Outcome,
    conclude,
    interval,
    ratio_evidence,
    summary,
    without_past,
)
from app.core.route import Arm

HALVES = (Arm("a", 0.5), Arm("b", 0.5))


def normal(random: Random, mean: float, count: int) -> list[float]:
    return [random.gauss(mean, 1.0) for _ in range(count)]


def test_peeking_forty_times_at_equal_arms_finds_hardly_ever_a_winner() -> None:
    """A plain 95 % interval would find one in a quarter of such experiments."""
    random, wrong = Random(11), 0
    for _ in range(150):
        values: dict[str, list[float]] = {"a": [], "b": []}
        for _ in range(40):
            for arm in values.values():
                arm += normal(random, 0.0, 25)
            found = interval(summary(values["a"]), summary(values["b"]))
            if found is not None and found.excludes_zero:
                wrong += 1
                break
    assert wrong <= 0.05 * 150


def test_a_better_arm_wins_and_its_interval_has_the_difference() -> None:
    random = Random(2)
    values = {"a": normal(random, 0.0, 3000), "b": normal(random, 0.3, 3000)}
    shown = conclude(HALVES, {"a": 3000, "b": 3000}, values)
    assert (shown.outcome, shown.winner) == (Outcome.WINNER, "b")
    assert shown.intervals["b"].low < 0.3 < shown.intervals["b"].high
    worse = conclude(HALVES, {"a": 3000, "b": 3000}, values, more_is_better=False)
    assert (worse.outcome, worse.winner) == (Outcome.WINNER, "a"), "the only other arm is worse"


@pytest.mark.parametrize("count", [0, 1, 30])
def test_too_few_keys_show_no_winner(count: int) -> None:
    random = Random(3)
    values = {"a": normal(random, 0.0, count), "b": normal(random, 0.3, count)}
    assert conclude(HALVES, {"a": count, "b": count}, values).outcome is Outcome.NO_WINNER


def test_no_winner_is_shown_while_the_split_is_off() -> None:
    random = Random(2)
    values = {"a": normal(random, 0.0, 3000), "b": normal(random, 0.5, 3000)}
    shown = conclude(HALVES, {"a": 3400, "b": 3000}, values)
    assert (shown.outcome, shown.winner) == (Outcome.SPLIT_OFF, "")


def test_of_three_arms_the_best_is_named() -> None:
    random = Random(4)
    arms = (Arm("a", 0.4), Arm("b", 0.3), Arm("c", 0.3))
    values = {"a": normal(random, 0.0, 4000), "b": normal(random, 0.3, 3000), "c": normal(random, 0.6, 3000)}
    assert conclude(arms, {"a": 4000, "b": 3000, "c": 3000}, values).winner == "c"


def test_a_right_split_that_is_watched_all_the_time_raises_no_alarm() -> None:
    random, alarms = Random(9), 0
    for _ in range(100):
        counts = {"a": 0, "b": 0}
        for _ in range(1500):
            counts["a" if random.random() < 0.5 else "b"] += 1
            if ratio_evidence(counts, HALVES) >= RATIO_OFF_AT:
                alarms += 1
                break
    assert alarms <= 1


def test_a_split_that_loses_callers_of_one_arm_raises_the_alarm() -> None:
    assert ratio_evidence({"a": 5000, "b": 4500}, HALVES) >= RATIO_OFF_AT
    assert ratio_evidence({"a": 500, "b": 450}, HALVES) < RATIO_OFF_AT
    assert ratio_evidence({}, HALVES) == pytest.approx(1.0)
    assert ratio_evidence({"a": 10**6}, HALVES) >= RATIO_OFF_AT, "and overflows nothing"


def test_a_value_from_before_narrows_the_interval_and_keeps_the_difference() -> None:
    random = Random(8)
    values: dict[str, list[tuple[float, float | None]]] = {"a": [], "b": []}
    for arm, lift in (("a", 0.0), ("b", 0.2)):
        for _ in range(2000):
            past = random.gauss(5.0, 2.0)
            values[arm].append((past + random.gauss(lift, 0.5), past))
        values[arm].append((5.0 + lift, None))
    plain = {arm: [value for value, _ in of_keys] for arm, of_keys in values.items()}
    before = interval(summary(plain["a"]), summary(plain["b"]))
    adjusted = without_past(values)
    after = interval(summary(adjusted["a"]), summary(adjusted["b"]))
    assert before is not None
    assert after is not None
    assert (after.high - after.low) < 0.4 * (before.high - before.low)
    assert after.low < 0.2 < after.high
    assert adjusted["a"][-1] == 5.0, "without a value from before nothing is taken out"


def test_without_any_value_from_before_nothing_changes() -> None:
    assert without_past({"a": [(1.0, None)], "b": []}) == {"a": [1.0], "b": []}
