"""The way of a shadow, as pure functions: a record in, the next record and its event out.

    pending ──► running ──► done
       │
       ▼
    failed

A function that is repeated returns None, for no change. The shadow never answers a caller in any state.
"""

from __future__ import annotations

from typing import Any

from app.core.rollout.canary import Versions
from app.core.rollout.records import Change, Rollout, RolloutEvent, RolloutKind, RolloutState, changed
from app.core.route import Arm


def begin(
    rollout_id: str,
    name: str,
    production_id: str,
    shadow_id: str,
    versions: Versions,
    now: str,
    created_by: str = "",
) -> Change:
    """Return a shadow that is made ready, and gets no copies yet."""
    rollout = Rollout(
        id=rollout_id,
        name=name,
        kind=RolloutKind.SHADOW,
        state=RolloutState.PENDING,
        stable_id=production_id,
        candidate_id=shadow_id,
        arms=(Arm(production_id, 1.0), Arm(shadow_id, 0.0)),
        created_at=now,
        updated_at=now,
        created_by=created_by,
    )
    text = f"{versions.candidate} is made ready beside {versions.stable}"
    return Change(rollout, RolloutEvent(rollout_id, 1, now, RolloutState.PENDING, text))


def start(rollout: Rollout, versions: Versions, now: str) -> Change | None:
    """Send copies to a shadow that is ready."""
    if rollout.state is not RolloutState.PENDING:
        return None
    text = f"{versions.candidate} gets copies of the requests that {versions.stable} answers"
    return changed(rollout, RolloutState.RUNNING, now, "", text=text)


def fail(rollout: Rollout, now: str, reason: str) -> Change | None:
    """End a shadow that never was ready."""
    if rollout.state is not RolloutState.PENDING:
        return None
    return changed(rollout, RolloutState.FAILED, now, reason)


def end(rollout: Rollout, now: str, reason: str, facts: dict[str, Any]) -> Change | None:
    """End a shadow; it gets no more copies. facts: what was found until now."""
    if not rollout.is_active:
        return None
    return changed(rollout, RolloutState.DONE, now, reason, facts)
