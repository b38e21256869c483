from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.rollout.split import arm_of
from app.core.route import Arm

KEYS = [f"user-{number}" for number in range(20_000)]
WEIGHTS = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6)


def arms(*weights: float) -> list[Arm]:
    """Arms with shares in these proportions."""
    return [Arm(f"v{number}", weight / sum(weights)) for number, weight in enumerate(weights)]


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)])
def test_each_arm_gets_its_share_of_the_keys(weights: tuple[float, ...]) -> None:
    split = arms(*weights)
    counts = Counter(arm_of(key, "experiment", split) for key in KEYS)
    for arm in split:
        assert counts[arm.model_id] / len(KEYS) == pytest.approx(arm.weight, abs=0.015)


@given(key=st.text(), weights=WEIGHTS, added=st.floats(0.01, 1.0))
def test_a_new_arm_takes_keys_from_others_and_moves_none_between_them(
    key: str, weights: list[float], added: float
) -> None:
    before, after = arm_of(key, "e", arms(*weights)), arm_of(key, "e", arms(*weights, added))
    assert after in (before, f"v{len(weights)}")


@given(key=st.text(), weights=WEIGHTS, more=st.floats(0.01, 1.0), data=st.data())
def test_more_weight_moves_keys_into_that_arm_alone(
    key: str, weights: list[float], more: float, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(weights) - 1))
    heavier = [weight + more * (number == place) for number, weight in enumerate(weights)]
    before, after = arm_of(key, "e", arms(*weights)), arm_of(key, "e", arms(*heavier))
    assert after in (before, f"v{place}")


@given(key=st.text(), order=st.permutations(arms(0.2, 0.3, 0.5)))
def test_the_order_of_the_arms_does_not_matter(key: str, order: list[Arm]) -> None:
    assert arm_of(key, "e", order) == arm_of(key, "e", arms(0.2, 0.3, 0.5))


def test_experiments_divide_the_same_callers_independently() -> None:
    half = arms(0.5, 0.5)
    both = Counter((arm_of(key, "first", half), arm_of(key, "second", half)) for key in KEYS)
    assert all(count / len(KEYS) == pytest.approx(0.25, abs=0.015) for count in both.values())


def test_a_key_keeps_its_arm_in_every_gateway_and_later_version() -> None:
    """The hash is part of the contract: another one would move half the callers of a running experiment."""
    assert [arm_of(key, "e1", arms(0.5, 0.5)) for key in ("ann", "bob", "cyd", "dan", "eve", "")] == [
        "v0",
        "v1",
        "v1",
        "v1",
        "v0",
        "v1",
    ]


def test_an_arm_without_weight_gets_no_key() -> None:
    assert {arm_of(key, "e", [Arm("a", 0.0), Arm("b", 1.0)]) for key in KEYS[:100]} == {"b"}
