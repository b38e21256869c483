from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from app.core.rollout.canary import Sight, decide, fail, pause, promote, resume, roll_back, start
from app.core.rollout.records import FINISHED, CanaryPolicy, Change, Rollout, RolloutState
from app.errors import Conflict
from tests.unit.core.rollout.canary_lab import VirtualCanary, pending, running, seen, sight

POLICY = CanaryPolicy()
STEPS = CanaryPolicy(steps=(5.0, 25.0, 50.0, 100.0), warm_seconds=60.0)


def in_state(state: RolloutState) -> Rollout:
    return structs.replace(running(), state=state)


def test_a_pending_candidate_has_no_traffic_and_a_started_one_its_share() -> None:
    assert [arm.weight for arm in pending().arms] == [1.0, 0.0]
    assert [arm.weight for arm in running().arms] == [0.95, 0.05]
    assert decide(pending(), sight()) is None


def test_a_candidate_that_never_was_ready_fails_and_moves_nothing() -> None:
    change = fail(pending(), "now", "its probe failed")
    assert change is not None
    assert (change.rollout.state, change.rollout.reason) == (RolloutState.FAILED, "its probe failed")
    assert change.rollout.arms == pending().arms
    assert fail(running(), "now", "too late") is None


def test_failures_roll_back_and_the_reason_tells_the_numbers() -> None:
    change = decide(running(), sight(seen(POLICY, 4, 4), 1.3))
    assert change is not None
    assert change.rollout.state is RolloutState.ROLLED_BACK
    assert change.rollout.arms[1].weight == 0.0
    assert change.rollout.reason == (
        "4 of 4 answers were 500 while 1.4.0 answered the same requests; limit 2 %; requests q2, q3, q4; "
        "step 5 %, 1.3 s after start"
    )
    assert change.event.text == change.rollout.reason
    assert change.event.number == change.rollout.generation == running().generation + 1
    assert change.event.facts["count"] == 4


@pytest.mark.parametrize(
    ("cause", "said"), [("lost", "were lost"), ("overdue", "were overdue"), ("differs", "differed")]
)
def test_the_reason_tells_what_was_bad(cause: str, said: str) -> None:
    change = decide(running(), sight(seen(POLICY, 4, 4, cause), 1.0))
    assert change is not None
    assert f"4 of 4 answers {said} while" in change.rollout.reason


def test_without_rescue_nothing_is_said_of_the_stable_version() -> None:
    policy = CanaryPolicy(rescue=False)
    change = decide(running(policy), sight(seen(policy, 4, 4), 1.0))
    assert change is not None
    assert "1.4.0" not in change.rollout.reason


def test_a_slow_candidate_is_rolled_back() -> None:
    change = decide(running(), sight(seen(POLICY, 6, slow=6, cause="slow"), 3.0))
    assert change is not None
    assert change.rollout.reason.startswith("6 of 6 answers were slower than the bound; limit 5 %; requests q4, q5, q6")


def test_without_evidence_a_step_neither_passes_nor_goes_back() -> None:
    early = running(STEPS)
    assert decide(early, sight(seen(STEPS, 37), 29.9)) is None
    change = decide(early, sight(seen(STEPS, 37), 30.0))
    assert change is not None
    assert (change.rollout.state, change.rollout.reason) == (
        RolloutState.HOLDING,
        "too little evidence (37 of 149)",
    )
    assert change.rollout.arms == early.arms
    assert decide(change.rollout, sight(seen(STEPS, 40), 99.0)) is None, "told once"
    on = decide(change.rollout, sight(seen(STEPS, 149), 100.0))
    assert on is not None
    assert (on.rollout.state, on.rollout.step) == (RolloutState.RUNNING, 1)
    assert on.rollout.arms[1].weight == 0.25


def test_no_traffic_at_all_holds_and_says_so() -> None:
    change = decide(running(), sight(seen(POLICY, 0), 86_400.0))
    assert change is not None
    assert change.rollout.state is RolloutState.HOLDING
    assert "answered nothing yet" in change.rollout.reason


def test_a_few_bad_answers_ask_for_more_evidence() -> None:
    change = decide(running(), sight(seen(POLICY, 200, 1), 30.0))
    assert change is not None
    assert change.rollout.reason.startswith("too little evidence (200 of 236, as 1 was bad")


def test_a_last_step_below_all_waits_for_its_promotion_and_says_so_once() -> None:
    change = decide(running(), sight(seen(POLICY, 500), 30.0))
    assert change is not None
    assert change.rollout.state is RolloutState.RUNNING
    assert change.rollout.reason.endswith("waits for its promotion")
    assert decide(change.rollout, sight(seen(POLICY, 501), 30.1)) is None
    later = decide(change.rollout, sight(seen(POLICY, 600, 60), 40.0))
    assert later is not None
    assert later.rollout.state is RolloutState.ROLLED_BACK


def test_a_good_candidate_goes_through_its_steps_to_the_end() -> None:
    canary = VirtualCanary(STEPS, share_bad=0.0, per_second=200, seed=1)
    assert canary.run(400) is RolloutState.DONE
    assert [change.event.what for change in canary.changes] == ["step", "step", "step", "promoted", "done"]
    assert canary.rollout.arms[1].weight == 1.0
    assert canary.seconds == pytest.approx(4 * 30 + 60, abs=1.0)


def test_a_candidate_that_breaks_after_its_promotion_goes_back() -> None:
    promoted = structs.replace(running(STEPS), state=RolloutState.PROMOTED)
    change = decide(promoted, sight(seen(STEPS, 5, 5), 12.0))
    assert change is not None
    assert change.rollout.state is RolloutState.ROLLED_BACK
    assert "after its promotion" in change.rollout.reason


def test_two_hundred_healthy_canaries_with_one_percent_errors_are_left_alone() -> None:
    policy = CanaryPolicy(steps=(20.0, 100.0), bake_seconds=10.0, warm_seconds=5.0)
    ended = [VirtualCanary(policy, share_bad=0.01, per_second=100, seed=seed).run(40) for seed in range(200)]
    assert ended.count(RolloutState.ROLLED_BACK) <= 1
    assert ended.count(RolloutState.DONE) > 50, "most have shown enough to be promoted"


def test_a_paused_canary_stays_at_its_step_but_is_still_judged() -> None:
    change = pause(running(STEPS), sight(), by="ann")
    assert change is not None
    assert (change.rollout.state, change.rollout.reason) == (RolloutState.PAUSED, "paused at 5 % by ann")
    assert decide(change.rollout, sight(seen(STEPS, 10_000), 1000.0)) is None
    bad = decide(change.rollout, sight(seen(STEPS, 4, 4), 1.0))
    assert bad is not None
    assert bad.rollout.state is RolloutState.ROLLED_BACK
    on = resume(change.rollout, sight())
    assert on is not None
    assert on.rollout.state is RolloutState.RUNNING


@pytest.mark.parametrize(
    ("command", "state"),
    [
        (promote, RolloutState.PROMOTED),
        (promote, RolloutState.DONE),
        (pause, RolloutState.PAUSED),
        (resume, RolloutState.RUNNING),
        (resume, RolloutState.HOLDING),
    ],
)
def test_a_repeated_command_changes_nothing(
    command: Callable[[Rollout, Sight], Change | None], state: RolloutState
) -> None:
    assert command(in_state(state), sight()) is None


def test_a_repeated_rollback_changes_nothing() -> None:
    assert roll_back(in_state(RolloutState.ROLLED_BACK), sight(), "again") is None


@pytest.mark.parametrize("state", [state for state in RolloutState if state not in FINISHED])
def test_every_active_canary_can_be_rolled_back(state: RolloutState) -> None:
    change = roll_back(in_state(state), sight(), "asked for")
    assert change is not None
    assert (change.rollout.state, change.rollout.arms[0].weight) == (RolloutState.ROLLED_BACK, 1.0)


def test_what_is_over_is_not_rolled_back_but_the_next_step_is_told() -> None:
    with pytest.raises(Conflict, match="prism rollback fraud"):
        roll_back(in_state(RolloutState.DONE), sight(), "too late")


@pytest.mark.parametrize(
    ("command", "state"),
    [
        (promote, RolloutState.PENDING),
        (promote, RolloutState.ROLLED_BACK),
        (promote, RolloutState.FAILED),
        (pause, RolloutState.PROMOTED),
        (resume, RolloutState.DONE),
    ],
)
def test_what_is_not_possible_says_why(command: Callable[[Rollout, Sight], Change | None], state: RolloutState) -> None:
    with pytest.raises(Conflict, match=f"fraud@1.5.0 is {state.value.replace('_', ' ')}"):
        command(in_state(state), sight())


def test_nothing_goes_back_to_a_stable_version_that_does_not_serve() -> None:
    assert decide(running(), sight(seen(POLICY, 9, 9), 1.0, stable_serves=False)) is None
    with pytest.raises(Conflict, match=r"fraud@1\.4\.0 does not serve"):
        roll_back(running(), sight(stable_serves=False), "asked for")


def test_a_broken_stable_version_does_not_block_what_mends_it() -> None:
    change = promote(running(), sight(seen(POLICY, 3), 1.0, stable_serves=False))
    assert change is not None
    assert change.rollout.state is RolloutState.PROMOTED


def test_a_candidate_that_will_not_come_back_is_rolled_back() -> None:
    change = decide(running(), sight(seen(POLICY, 3), 1.0, lost="1.5.0 was stopped"))
    assert change is not None
    assert (change.rollout.state, change.rollout.reason) == (RolloutState.ROLLED_BACK, "1.5.0 was stopped")


def test_a_promoted_canary_is_over_when_the_version_before_it_is_stopped() -> None:
    change = decide(
        in_state(RolloutState.PROMOTED), structs.replace(sight(seen(POLICY, 3)), stable_lost="it was stopped")
    )
    assert change is not None
    assert (change.rollout.state, change.rollout.reason) == (RolloutState.DONE, "it was stopped")


def test_a_canary_of_which_both_versions_were_stopped_is_over() -> None:
    change = decide(running(), sight(seen(POLICY, 3), stable_serves=False, lost="1.5.0 was stopped"))
    assert change is not None
    assert change.rollout.state is RolloutState.ROLLED_BACK


def test_a_canary_starts_once() -> None:
    assert start(running(), sight()) is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_to_a_canary_is_told_and_its_end_has_a_reason(seed: int) -> None:
    share_bad = (0.0, 0.01, 0.05, 0.3, 1.0)[seed % 5]
    canary = VirtualCanary(STEPS, share_bad, per_second=40, seed=seed)
    canary.run(600)
    assert all(change.event.text for change in canary.changes)
    assert all(change.rollout.reason for change in canary.changes if change.rollout.state is not RolloutState.RUNNING)
    numbers = [change.event.number for change in canary.changes]
    assert numbers == list(range(3, 3 + len(numbers)))
