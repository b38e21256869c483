"""The route that a rollout asks for: a pure function of its record."""

from __future__ import annotations

from app.core.rollout.records import Rollout, RolloutKind, RolloutState
from app.core.route import Canary, Route

JUDGED = (RolloutState.RUNNING, RolloutState.HOLDING, RolloutState.PAUSED, RolloutState.PROMOTED)


def rollout_route(rollout: Rollout) -> Route:
    """Return how the requests for a name are split while its rollout is in this state, and whether they are evidence.

    A shadow that runs gets copies of all of them.
    """
    policy = rollout.policy
    canary = None
    if rollout.kind is RolloutKind.CANARY and rollout.state in JUDGED:
        overdue_seconds = policy.overdue_ms / 1000 if policy.overdue_ms is not None else None
        canary = Canary(rollout.stable_id, rollout.candidate_id, policy.rescue, overdue_seconds)
    if rollout.kind is RolloutKind.SHADOW and rollout.state is RolloutState.RUNNING:
        answering = tuple(arm for arm in rollout.arms if arm.model_id != rollout.candidate_id)
        return Route(answering, rollout.candidate_id, rollout_id=rollout.id)
    return Route(rollout.arms, canary=canary, rollout_id=rollout.id)
