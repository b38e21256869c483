"""What a candidate has shown since its step began, and what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from app.core.rollout.bounds import answers_needed, is_within, upper_bound
from app.core.rollout.records import CanaryPolicy, Evidence, Incident
from app.core.rollout.verdict import LEAST_LIMIT, Verdict, verdict

SLOW_LIMIT = 0.05
"""Share of the answers that may be slower than the bound, which is above the stable version's 99th percentile."""

SLOW = "slow"
REQUESTS_NAMED = 3


class Trial(Struct, frozen=True):
    """What was seen of a candidate. Counts are those of dispatch; times are seconds of a monotonic clock.

    began_at: when its step began, or when a restarted gateway resumed it. at_begin: what had been counted then.
    """

    began_at: float
    at_begin: Evidence
    latest: Evidence
    bad: Verdict
    slow: Verdict

    def after(self, evidence: Evidence) -> Trial:
        """Return the trial with what was counted since the last look. Counters that began anew are taken from 0."""
        before, begin = self.latest, self.at_begin
        if evidence.answers < before.answers or evidence.bad < before.bad or evidence.slow < before.slow:
            before, begin = Evidence(), Evidence()
        answers = evidence.answers - before.answers
        return Trial(
            self.began_at,
            begin,
            evidence,
            self.bad.after(evidence.bad - before.bad, answers),
            self.slow.after(evidence.slow - before.slow, answers),
        )

    def in_next_step(self, now: float) -> Trial:
        return Trial(now, self.latest, self.latest, self.bad.in_next_step(), self.slow.in_next_step())

    @property
    def seen(self) -> Evidence:
        """What was counted since the step began; the incidents are the latest ones."""
        now, begin = self.latest, self.at_begin
        return Evidence(
            answers=now.answers - begin.answers,
            bad=now.bad - begin.bad,
            both_failed=now.both_failed - begin.both_failed,
            slow=now.slow - begin.slow,
            mirrored=now.mirrored - begin.mirrored,
            incidents=now.incidents,
        )


class Finding(Struct, frozen=True):
    """The reason for which a candidate must go. text: for a person. facts: the numbers behind it."""

    text: str
    facts: dict[str, object]


def begin_trial(policy: CanaryPolicy, evidence: Evidence, now: float) -> Trial:
    """Return the trial of a candidate's first step. evidence: what has been counted of it before."""
    return Trial(now, evidence, evidence, verdict(policy.threshold), verdict(SLOW_LIMIT))


def fault(trial: Trial, policy: CanaryPolicy, stable_version: str) -> Finding | None:
    """Return what condemns the candidate; None if nothing does."""
    if trial.bad.is_above:
        incidents = [incident for incident in trial.latest.incidents if incident.cause != SLOW]
        return _finding(trial, trial.bad, trial.seen.bad, _said(incidents, policy, stable_version), incidents)
    if trial.slow.is_above:
        incidents = [incident for incident in trial.latest.incidents if incident.cause == SLOW]
        return _finding(trial, trial.slow, trial.seen.slow, "were slower than the bound", incidents)
    return None


def is_passed(trial: Trial, policy: CanaryPolicy) -> bool:
    """Return whether the candidate has shown that its shares of bad and of slow answers are within the limits."""
    seen = trial.seen
    return all(is_within(count, seen.answers, limit) for count, limit, _ in _shares(seen, policy))


def missing(trial: Trial, policy: CanaryPolicy) -> str:
    """Return what keeps the candidate from passing its step, for a person; "" if nothing does."""
    seen = trial.seen
    for count, limit, what in _shares(seen, policy):
        if is_within(count, seen.answers, limit):
            continue
        needed = answers_needed(count, limit)
        if not seen.answers:
            return f"no evidence: the candidate has answered nothing yet (0 of {needed:,})"
        if not count:
            return f"too little evidence ({seen.answers:,} of {needed:,})"
        return (
            f"too little evidence ({seen.answers:,} of {needed:,}, as {count:,} {'was' if count == 1 else 'were'} {what}: "
            f"the share may be up to {percent(upper_bound(count, seen.answers))}, the limit is {percent(limit)})"
        )
    return ""


def _shares(seen: Evidence, policy: CanaryPolicy) -> tuple[tuple[int, float, str], ...]:
    """Return what is limited: the count, its limit as a share of the answers, and a word for it."""
    return (seen.bad, max(policy.threshold, LEAST_LIMIT), "bad"), (seen.slow, SLOW_LIMIT, "slow")


def percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _finding(trial: Trial, judged: Verdict, count: int, said: str, incidents: Sequence[Incident]) -> Finding:
    answers, scope = trial.seen.answers, ""
    recent_count, recent_answers = judged.recent
    if judged.is_above_late and recent_answers < answers:
        count, answers, scope = recent_count, recent_answers, "the last "
    newest = [incident.request_id for incident in incidents if incident.request_id][-REQUESTS_NAMED:]
    facts = {
        "answers": answers,
        "count": count,
        "limit": judged.limit,
        "requests": newest,
        "evidence": _numbers(trial.seen),
    }
    named = f"; requests {', '.join(newest)}" if newest else ""
    return Finding(f"{count:,} of {scope}{answers:,} answers {said}; limit {percent(judged.limit)}{named}", facts)


def _said(incidents: Sequence[Incident], policy: CanaryPolicy, stable_version: str) -> str:
    causes = Counter(_cause(incident.cause) for incident in incidents)
    if len(causes) == 1:
        said = next(iter(causes))
    elif causes:
        said = "were bad (" + ", ".join(f"{count} {cause}" for cause, count in causes.most_common()) + " of the last)"
    else:
        said = "were bad"
    return f"{said} while {stable_version} answered the same requests" if policy.rescue else said


def _cause(cause: str) -> str:
    """Return a cause as the end of a sentence: `status 500` is "were 500", `differs` "differed"."""
    return "differed" if cause == "differs" else f"were {cause.removeprefix('status ')}"


def _numbers(evidence: Evidence) -> dict[str, int]:
    return {
        "answers": evidence.answers,
        "bad": evidence.bad,
        "both_failed": evidence.both_failed,
        "slow": evidence.slow,
        "mirrored": evidence.mirrored,
    }
