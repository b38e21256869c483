from __future__ import annotations

from math import nan

import pytest

from app.core.route import Arm, Canary, CopyBounds, Route
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


@pytest.mark.parametrize(
    ("canary", "mirror", "reason"),
    [
        (Canary("m1", "m3"), None, "`m3` of the canary is no arm"),
        (Canary("m0", "m2"), None, "`m0` of the canary is no arm"),
        (Canary("m1", "m2"), "m3", "a canary or a mirror, not both"),
    ],
)
def test_a_canary_that_does_not_fit_its_route_is_refused(canary: Canary, mirror: str | None, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        Route(CANARY.arms, mirror, canary)


def test_a_canary_of_one_version_or_without_time_is_refused() -> None:
    with pytest.raises(BadInput, match="both the stable version and the candidate"):
        Canary("m1", "m1")
    for seconds in (0.0, -1.0, nan):
        with pytest.raises(BadInput, match="overdue_seconds"):
            Canary("m1", "m2", overdue_seconds=seconds)


@pytest.mark.parametrize("bound", ["in_flight", "held_bytes", "per_second", "pairs"])
def test_bounds_on_copies_below_nothing_are_refused(bound: str) -> None:
    for value in (-1, nan):
        with pytest.raises(BadInput, match="is not 0 or more"):
            CopyBounds(**{bound: value})  # type: ignore[arg-type]


def test_a_canary_lasts_while_both_its_versions_do_and_the_rollout_stays_known() -> None:
    route = Route(CANARY.arms, canary=Canary("m1", "m2"), rollout_id="r1", copies=CopyBounds(pairs=1))
    assert route.restricted_to({"m1", "m2"}) == route
    rest = route.restricted_to({"m1"})
    assert rest == Route((Arm("m1", 1.0),), rollout_id="r1", copies=CopyBounds(pairs=1))


def test_a_stable_version_that_is_coming_back_stays_in_the_canary_without_a_share() -> None:
    canary = Route((Arm("m1", 0.95), Arm("m2", 0.05)), canary=Canary("m1", "m2"))
    rest = canary.restricted_to({"m2"}, {"m1"})
    assert rest is not None
    assert (rest.arms, rest.canary) == ((Arm("m1", 0.0), Arm("m2", 1.0)), canary.canary)
    gone = canary.restricted_to({"m2"})
    assert gone is not None
    assert gone.canary is None
    candidate_coming = canary.restricted_to({"m1"}, {"m2"})
    assert candidate_coming is not None
    assert candidate_coming.canary is None
