from __future__ import annotations

from math import nan

import pytest

from app.core.route import Arm, Route
from app.errors import BadInput

CANARY = Route((Arm("m1", 0.95), Arm("m2", 0.05)))


@pytest.mark.parametrize(
    ("arms", "mirror", "reason"),
    [
        ((), None, "do not add up to 1"),
        ((Arm("m1", 0.5), Arm("m2", 0.4)), None, "m1: 0.5, m2: 0.4.* do not add up to 1"),
        ((Arm("m1", 1.0), Arm("m2", 1e-6)), None, "do not add up to 1"),
        ((Arm("m1", 1.5), Arm("m2", -0.5)), None, "is not between 0 and 1"),
        ((Arm("m1", nan),), None, "is not between 0 and 1"),
        ((Arm("m1", 0.5), Arm("m1", 0.5)), None, "occurs twice"),
        ((Arm("m1", 1.0),), "m1", "`m1` cannot be both an arm and the mirror"),
    ],
)
def test_a_route_with_impossible_values_is_refused(arms: tuple[Arm, ...], mirror: str | None, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        Route(arms, mirror)


def test_weights_may_miss_their_sum_by_what_floats_miss_it() -> None:
    assert Route(tuple(Arm(f"m{n}", 0.1) for n in range(10))).weight("m3") == 0.1


def test_the_main_arm_has_the_greatest_weight_and_is_the_first_of_equals() -> None:
    assert CANARY.main.model_id == "m1"
    assert Route((Arm("m1", 0.5), Arm("m2", 0.5))).main.model_id == "m1"
    assert Route((Arm("m1", 0.0), Arm("m2", 1.0))).main.model_id == "m2"


def test_arms_that_are_left_out_give_their_shares_to_the_others_in_proportion() -> None:
    three = Route((Arm("m1", 0.5), Arm("m2", 0.3), Arm("m3", 0.2)), mirror="m4")
    assert three.restricted_to({"m1", "m2", "m3", "m4"}) == three
    rest = three.restricted_to({"m2", "m3", "m4"})
    assert rest is not None
    assert [arm.model_id for arm in rest.arms] == ["m2", "m3"]
    assert rest.weight("m2") == pytest.approx(0.6)
    assert rest.weight("m1") == 0.0
    assert rest.mirror == "m4"
    assert three.restricted_to({"m1"}) == Route((Arm("m1", 1.0),))


def test_an_arm_without_a_share_inherits_none() -> None:
    waiting = Route((Arm("m1", 1.0), Arm("m2", 0.0)), mirror="m3")
    assert waiting.versions == {"m1", "m2", "m3"}
    assert waiting.restricted_to({"m2", "m3"}) is None
    assert waiting.restricted_to({"m1", "m2"}) == Route((Arm("m1", 1.0), Arm("m2", 0.0)))
