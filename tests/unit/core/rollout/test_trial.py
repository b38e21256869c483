from __future__ import annotations

from app.core.rollout.records import CanaryPolicy, Evidence
from app.core.rollout.trial import begin_trial, is_passed

POLICY = CanaryPolicy()


def test_a_step_begins_without_the_answers_of_the_one_before() -> None:
    trial = begin_trial(POLICY, Evidence(), 0.0).after(Evidence(answers=10_000))
    assert is_passed(trial, POLICY)
    following = trial.in_next_step(30.0)
    assert following.seen == Evidence()
    assert not is_passed(following, POLICY)
    assert {one.mixture for one in following.bad.alternatives + following.slow.alternatives} == {0.0}
    assert following.after(Evidence(answers=10_003, bad=3)).seen == Evidence(answers=3, bad=3)


def test_counters_that_began_anew_are_taken_from_zero() -> None:
    trial = begin_trial(POLICY, Evidence(), 0.0).after(Evidence(answers=500, bad=2))
    assert trial.after(Evidence(answers=3, bad=1)).seen == Evidence(answers=3, bad=1)
