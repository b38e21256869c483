"""The way of a canary, as pure functions: a record and what was seen in, the next record and its event out.

    pending ──► running ⇄ holding ──► promoted ──► done
       │           ⇅ paused               │
       ▼           ▼                      ▼
    failed     rolled_back ◄──────────────┘

A function that is repeated returns None, for no change. Rolling back outranks everything else: it is decided first, and
asked for it is possible from each state before `done`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from app.core.rollout.records import CanaryPolicy, Change, Rollout, RolloutEvent, RolloutKind, RolloutState, changed
from app.core.rollout.trial import Finding, Trial, fault, is_passed, missing, percent
from app.core.route import Arm
from app.errors import Conflict

WHOLE = 100.0
STEP_WORD = "step"
PASSED_WORD = "passed"
IN_STEP = (RolloutState.RUNNING, RolloutState.HOLDING, RolloutState.PAUSED)


class Versions(Struct, frozen=True):
    """The version numbers of a rollout, for a person."""

    stable: str
    candidate: str


class Sight(Struct, frozen=True):
    """What the controller sees when it judges a canary.

    trial: None before traffic moved. now: the time for the record, RFC 3339. seconds: since the step began, or since
    the promotion. stable_serves: whether there is a version to go back to. lost, stable_lost: why the candidate or the
    stable version will not come back by itself; "" if it serves or may.
    """

    trial: Trial | None
    now: str
    seconds: float
    versions: Versions
    stable_serves: bool = True
    lost: str = ""
    stable_lost: str = ""


def begin(
    rollout_id: str,
    name: str,
    stable_id: str,
    candidate_id: str,
    policy: CanaryPolicy,
    versions: Versions,
    now: str,
    created_by: str = "",
) -> Change:
    """Return a canary whose candidate has no traffic yet."""
    rollout = Rollout(
        id=rollout_id,
        name=name,
        kind=RolloutKind.CANARY,
        state=RolloutState.PENDING,
        stable_id=stable_id,
        candidate_id=candidate_id,
        arms=_arms(stable_id, candidate_id, 0.0),
        created_at=now,
        updated_at=now,
        policy=policy,
        created_by=created_by,
    )
    text = f"{versions.candidate} is made ready beside {versions.stable}"
    return Change(rollout, RolloutEvent(rollout_id, 1, now, RolloutState.PENDING, text, {"steps": policy.steps}))


def start(rollout: Rollout, sight: Sight) -> Change | None:
    """Give a candidate that is ready the share of its first step."""
    if rollout.state is not RolloutState.PENDING:
        return None
    return _in_step(rollout, 0, sight)


def fail(rollout: Rollout, now: str, reason: str) -> Change | None:
    """End a canary whose candidate never was ready; no traffic moved."""
    if rollout.state is not RolloutState.PENDING:
        return None
    return changed(rollout, RolloutState.FAILED, now, reason)


def decide(rollout: Rollout, sight: Sight) -> Change | None:
    """Return what follows from what was seen; None to go on as it is.

    While the stable version does not serve, a candidate that does is not rolled back: there is nowhere to go back to.
    """
    if not rollout.is_active or rollout.state is RolloutState.PENDING or sight.trial is None:
        return None
    if sight.lost:
        return _back(rollout, sight, sight.lost)
    if sight.stable_serves:
        found = fault(sight.trial, rollout.policy, sight.versions.stable)
        if found is not None:
            return _condemn(rollout, sight, found)
    if rollout.state is RolloutState.PROMOTED:
        return _finish(rollout, sight)
    return None if rollout.state is RolloutState.PAUSED else _advance(rollout, sight, sight.trial)


def promote(rollout: Rollout, sight: Sight, by: str = "") -> Change | None:
    """Give the candidate everything. Raises Conflict if it is not ready, or was rolled back."""
    if rollout.state in (RolloutState.PROMOTED, RolloutState.DONE):
        return None
    _refuse(rollout, sight, IN_STEP, "be promoted")
    return _promote(rollout, sight, f"promoted{by and f' by {by}'}")


def roll_back(rollout: Rollout, sight: Sight, reason: str, facts: dict[str, Any] | None = None) -> Change | None:
    """Give the stable version everything again. Raises Conflict for a rollout that is done, or without a stable version."""
    if rollout.state in (RolloutState.ROLLED_BACK, RolloutState.FAILED):
        return None
    if rollout.state is RolloutState.DONE:
        raise Conflict(
            f"The rollout of {rollout.name}@{sight.versions.candidate} is over, so it cannot be rolled back.",
            hint=f"`prism rollback {rollout.name}` makes the version before it live again.",
        )
    if not sight.stable_serves:
        raise Conflict(
            f"{rollout.name}@{sight.versions.stable} does not serve, so nothing can be rolled back to it.",
            hint=f"Start it: `prism models start {rollout.name}@{sight.versions.stable}`.",
        )
    return _back(rollout, sight, reason, facts)


def back_on_top(recorded: Rollout, change: Change) -> Change:
    """Return a rollback that acted already, on top of what was recorded in the meantime."""
    event, arms = change.event, change.rollout.arms
    return changed(recorded, RolloutState.ROLLED_BACK, event.at, change.rollout.reason, event.facts, arms=arms)


def pause(rollout: Rollout, sight: Sight, by: str = "") -> Change | None:
    """Leave a canary at its step until it is resumed; it is still rolled back if it must be."""
    if rollout.state is RolloutState.PAUSED:
        return None
    _refuse(rollout, sight, IN_STEP, "be paused")
    return changed(rollout, RolloutState.PAUSED, sight.now, f"paused at {_share(rollout)}{by and f' by {by}'}")


def resume(rollout: Rollout, sight: Sight, by: str = "") -> Change | None:
    """Let a paused canary go on."""
    if rollout.state in (RolloutState.RUNNING, RolloutState.HOLDING):
        return None
    _refuse(rollout, sight, (RolloutState.PAUSED,), "be resumed")
    text = f"resumed at {_share(rollout)}{by and f' by {by}'}"
    return changed(rollout, RolloutState.RUNNING, sight.now, "", text=text)


def _advance(rollout: Rollout, sight: Sight, trial: Trial) -> Change | None:
    if sight.seconds < rollout.policy.bake_seconds:
        return None
    if not is_passed(trial, rollout.policy):
        if rollout.state is RolloutState.HOLDING or rollout.reason:
            return None
        return changed(rollout, RolloutState.HOLDING, sight.now, missing(trial, rollout.policy))
    seen = trial.seen
    passed = f"{_share(rollout)} passed: {seen.bad:,} of {seen.answers:,} answers were bad"
    if _percentage(rollout) == WHOLE:
        return _promote(rollout, sight, f"promoted: the step of {passed}")
    if rollout.step + 1 < len(rollout.policy.steps):
        return _in_step(rollout, rollout.step + 1, sight, passed)
    if rollout.state is RolloutState.RUNNING and rollout.reason:
        return None
    reason = f"{passed}; waits for its promotion"
    return changed(rollout, RolloutState.RUNNING, sight.now, reason, what=PASSED_WORD)


def _in_step(rollout: Rollout, step: int, sight: Sight, passed: str = "") -> Change:
    share = rollout.policy.steps[step]
    text = f"{sight.versions.candidate} gets {percent(share / WHOLE)} of the requests" + (passed and f", as {passed}")
    return changed(
        rollout,
        RolloutState.RUNNING,
        sight.now,
        "",
        {"step": step, "share": share},
        what=STEP_WORD,
        text=text,
        arms=_arms(rollout.stable_id, rollout.candidate_id, share / WHOLE),
        step=step,
    )


def _promote(rollout: Rollout, sight: Sight, reason: str) -> Change:
    arms = _arms(rollout.stable_id, rollout.candidate_id, 1.0)
    return changed(rollout, RolloutState.PROMOTED, sight.now, reason, arms=arms)


def _back(rollout: Rollout, sight: Sight, reason: str, facts: dict[str, Any] | None = None) -> Change:
    arms = _arms(rollout.stable_id, rollout.candidate_id, 0.0)
    return changed(rollout, RolloutState.ROLLED_BACK, sight.now, reason, facts, arms=arms)


def _finish(rollout: Rollout, sight: Sight) -> Change | None:
    if sight.seconds < rollout.policy.warm_seconds:
        return changed(rollout, RolloutState.DONE, sight.now, sight.stable_lost) if sight.stable_lost else None
    reason = f"{sight.versions.stable} was kept warm for {rollout.policy.warm_seconds:g} s and was not needed"
    return changed(rollout, RolloutState.DONE, sight.now, reason)


def _condemn(rollout: Rollout, sight: Sight, found: Finding) -> Change | None:
    where = "after its promotion" if rollout.state is RolloutState.PROMOTED else f"step {_share(rollout)}"
    reason = f"{found.text}; {where}, {sight.seconds:.1f} s after start"
    return roll_back(rollout, sight, reason, {**found.facts, "seconds": round(sight.seconds, 3)})


def _refuse(rollout: Rollout, sight: Sight, states: tuple[RolloutState, ...], what: str) -> None:
    if rollout.state in states:
        return
    hint = {
        RolloutState.PENDING: f"{sight.versions.candidate} is still made ready; try again in a moment.",
        RolloutState.ROLLED_BACK: f"Begin another one: `prism canary start {rollout.name}`.",
        RolloutState.FAILED: f"Begin another one: `prism canary start {rollout.name}`.",
    }.get(rollout.state, "")
    about = f": {rollout.reason}" if rollout.reason else ""
    raise Conflict(
        f"The rollout of {rollout.name}@{sight.versions.candidate} is {told(rollout.state)}, so it cannot {what}{about}.",
        hint=hint,
        rollout=rollout.id,
    )


def told(state: RolloutState) -> str:
    """Return a state as a reader writes it."""
    return state.value.replace("_", " ")


def _arms(stable_id: str, candidate_id: str, share: float) -> tuple[Arm, ...]:
    return Arm(stable_id, 1.0 - share), Arm(candidate_id, share)


def _percentage(rollout: Rollout) -> float:
    return rollout.policy.steps[rollout.step]


def _share(rollout: Rollout) -> str:
    return percent(_percentage(rollout) / WHOLE)
