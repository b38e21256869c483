"""The way of an A/B experiment, as pure functions: a record in, the next record and its event out.

    pending ──► running ──► promoted ──► done
       │                        ▲
       ├──► failed              │ stopped: one version takes all requests, the others are drained
       └────────────────────────┘

A function that is repeated returns None, for no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from app.core.rollout.keys import key_source
from app.core.rollout.records import Change, Rollout, RolloutEvent, RolloutKind, RolloutState, changed
from app.core.rollout.trial import percent
from app.core.route import Arm
from app.errors import BadInput, Conflict

VARIANTS_MAX = 20


def shares(variants: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each variant, from weights in any unit. Raises BadInput that names the variant."""
    if not 2 <= len(variants) <= VARIANTS_MAX:
        raise BadInput(
            f"An experiment has 2 to {VARIANTS_MAX} variants; {len(variants)} {'was' if len(variants) == 1 else 'were'} given.",
            hint='For example `"variants": {"1.0.0": 50, "2.0.0": 50}`.',
            field="variants",
        )
    for version, weight in variants.items():
        if not (isfinite(weight) and weight > 0):
            raise BadInput(
                f"The weight of {version[:100]} must be above 0; it was {weight:g}.",
                hint="Leave out a version that is to get nothing.",
                field="variants",
            )
    total = sum(variants.values())
    if not isfinite(total):
        raise BadInput("The weights are too large.", hint="Give shares in percent.", field="variants")
    return {version: weight / total for version, weight in variants.items()}


def begin(
    rollout_id: str,
    name: str,
    stable_id: str,
    arms: Sequence[Arm],
    key: str,
    numbers: Mapping[str, str],
    now: str,
    created_by: str = "",
) -> Change:
    """Return an experiment whose variants have no traffic by it yet. numbers: version numbers by model_id.

    The version that has the traffic is the control if it takes part, otherwise the first variant is. Raises BadInput
    for a key that cannot be read.
    """
    key_source(key)
    rollout = Rollout(
        id=rollout_id,
        name=name,
        kind=RolloutKind.EXPERIMENT,
        state=RolloutState.PENDING,
        stable_id=stable_id,
        candidate_id="",
        arms=tuple(sorted(arms, key=lambda arm: arm.model_id != stable_id)),
        created_at=now,
        updated_at=now,
        key=key,
        created_by=created_by,
    )
    text = f"{_listed(numbers[arm.model_id] for arm in rollout.arms)} are made ready"
    return Change(rollout, RolloutEvent(rollout_id, 1, now, RolloutState.PENDING, text, {"key": key}))


def start(rollout: Rollout, numbers: Mapping[str, str], now: str) -> Change | None:
    """Divide the callers among variants that are ready."""
    if rollout.state is not RolloutState.PENDING:
        return None
    split = {numbers[arm.model_id]: arm.weight for arm in rollout.arms}
    text = ", ".join(f"{version} gets {percent(share)}" for version, share in split.items()) + " of the callers"
    return changed(rollout, RolloutState.RUNNING, now, "", {"shares": split}, text=text)


def fail(rollout: Rollout, reason: str, now: str) -> Change | None:
    """End an experiment that never began; no traffic moved."""
    return changed(rollout, RolloutState.FAILED, now, reason) if rollout.state is RolloutState.PENDING else None


def stop(rollout: Rollout, winner: str, number: str, now: str, by: str = "") -> Change | None:
    """Give one version all requests. winner: its model_id; number: its version number.

    Raises Conflict if the experiment was stopped for another one, or failed.
    """
    if rollout.state in (RolloutState.PENDING, RolloutState.RUNNING):
        text = f"stopped{by and f' by {by}'}; {number} gets all requests"
        return changed(rollout, RolloutState.PROMOTED, now, text, facts={"winner": number}, candidate_id=winner)
    if rollout.candidate_id == winner:
        return None
    raise Conflict(
        f"The experiment {rollout.id} of {rollout.name} is {rollout.state.value} already"
        f"{f': {rollout.reason}' if rollout.reason else ''}.",
        hint=f"`prism ab start {rollout.name}` begins another one.",
        rollout=rollout.id,
    )


def finish(rollout: Rollout, now: str) -> Change | None:
    """End a stopped experiment, once the other versions are drained."""
    if rollout.state is not RolloutState.PROMOTED:
        return None
    return changed(rollout, RolloutState.DONE, now, rollout.reason, text="the other versions are stopped")


def _listed(numbers: Iterable[str]) -> str:
    *most, last = numbers
    return f"{', '.join(most)} and {last}"
