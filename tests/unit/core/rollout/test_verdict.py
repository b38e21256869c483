from __future__ import annotations

from random import Random
from statistics import median

import pytest

from app.core.rollout.verdict import LEAST_LIMIT, Verdict, verdict


def answers_until_above(limit: float, share: float, most: int, random: Random) -> int | None:
    """Feed single answers of which a share is bad; return how many it took, None if the verdict was never reached."""
    judged = verdict(limit)
    for count in range(1, most + 1):
        judged = judged.after(random.random() < share, 1)
        if judged.is_above:
            return count
    return None


@pytest.mark.parametrize(("share", "answers"), [(1.0, 3), (0.5, 7), (0.2, 28), (0.1, 93)])
def test_so_many_answers_of_a_bad_candidate_suffice(share: float, answers: int) -> None:
    random = Random(5)
    needed = [answers_until_above(0.02, share, 5000, random) for _ in range(151)]
    assert None not in needed
    assert median(count for count in needed if count) <= answers


def test_a_candidate_at_its_limit_is_left_alone() -> None:
    """The rule of the last hundred answers condemns nearly all, even with half as many errors."""
    random = Random(7)
    assert sum(answers_until_above(0.02, 0.02, 1000, random) is not None for _ in range(200)) <= 1


def test_what_breaks_after_many_good_answers_is_found_as_fast() -> None:
    late = verdict(0.02).after(200, 50_000)
    assert not late.is_above
    for _ in range(6):
        late = late.after(1, 1)
    assert late.is_above_late
    assert late.recent == (6, 6), "counted since it broke, not since it began"


def test_differences_of_counters_tell_the_same_as_single_answers() -> None:
    single = verdict(0.02)
    for bad in (True, True, False, True):
        single = single.after(bad, 1)
    at_once = verdict(0.02).after(3, 4)
    assert [one.mixture for one in at_once.alternatives] == pytest.approx([one.mixture for one in single.alternatives])
    assert at_once.after(0, 0) is at_once


def test_the_next_step_begins_without_what_spoke_for_or_against_it() -> None:
    tired = verdict(0.02).after(10, 1000)
    assert all(one.mixture == 0.0 for one in tired.in_next_step().alternatives)
    assert tired.in_next_step().recent == tired.recent


@pytest.mark.parametrize("limit", [0.0, LEAST_LIMIT, 0.3, 0.6])
def test_every_limit_is_exceeded_by_failures_alone(limit: float) -> None:
    judged: Verdict = verdict(limit)
    for _ in range(60):
        judged = judged.after(1, 1)
    assert judged.is_above


def test_a_limit_of_all_answers_is_never_exceeded() -> None:
    assert not verdict(1.0).after(100_000, 100_000).is_above
    assert verdict(1.0).recent == (0, 0)


def test_a_long_row_of_failures_overflows_nothing() -> None:
    assert verdict(0.02).after(10**6, 10**6).is_above
