"""The JSON documents in which the API describes rollouts."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from app.core.rollout.bounds import upper_bound
from app.core.rollout.canary import Sight
from app.core.rollout.records import Rollout, RolloutState
from app.core.rollout.trial import missing

WAITING = (RolloutState.RUNNING, RolloutState.HOLDING, RolloutState.PAUSED)


def rollout_document(rollout: Rollout, sight: Sight) -> dict[str, Any]:
    """Return a rollout, and what was seen of its candidate since its step began.

    missing: the evidence that the step lacks to be passed; null if none is, or it is not in a step. evidence: null
    before the candidate gets traffic, and for a rollout that is over. bad_share_bound: the share of bad answers is below
    it with 95 % confidence.
    """
    policy, trial = rollout.policy, sight.trial
    seen = trial.seen if trial is not None else None
    document: dict[str, Any] = {
        "id": rollout.id,
        "name": rollout.name,
        "kind": rollout.kind,
        "state": rollout.state,
        "reason": rollout.reason or None,
        "stable": {"model_id": rollout.stable_id, "version": sight.versions.stable},
        "candidate": {"model_id": rollout.candidate_id, "version": sight.versions.candidate},
        "percentage": next((arm.weight * 100 for arm in rollout.arms if arm.model_id == rollout.candidate_id), 0.0),
        "step": rollout.step,
        "steps": policy.steps,
        "bake_seconds": policy.bake_seconds,
        "auto_rollback_threshold": policy.threshold,
        "overdue_ms": policy.overdue_ms,
        "rescue": policy.rescue,
        "warm_seconds": policy.warm_seconds,
        "missing": (missing(trial, policy) or None) if trial is not None and rollout.state in WAITING else None,
        "evidence": seen,
        "bad_share_bound": upper_bound(seen.bad, seen.answers) if seen is not None else None,
        "seconds": round(sight.seconds, 3) if trial is not None else None,
        "created_at": rollout.created_at,
        "updated_at": rollout.updated_at,
        "created_by": rollout.created_by or None,
        "generation": rollout.generation,
    }
    return dict(to_builtins(document))
