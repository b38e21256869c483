"""Records that the tests of the catalog keep."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from app.core.model import Artifact, ModelVersion
from app.core.rollout.records import CanaryPolicy, Rollout, RolloutEvent, RolloutKind, RolloutState
from app.core.route import Arm
from tests.records import model_version


def at(second: int) -> str:
    return f"2026-11-29T10:00:{second:02}.000000Z"


def version(model_id: str = "a1", number: str = "1.0.0", name: str = "fraud", **facts: Any) -> ModelVersion:
    second = int(model_id[1:])
    return model_version(model_id, name, number, Artifact("model.joblib", f"sha-{model_id}", 1234), at(second), **facts)


def canary(rollout_id: str = "r1", name: str = "fraud", second: int = 0, **facts: Any) -> Rollout:
    rollout = Rollout(
        rollout_id,
        name,
        RolloutKind.CANARY,
        RolloutState.PENDING,
        "a1",
        "a2",
        (Arm("a1", 0.95), Arm("a2", 0.05)),
        at(second),
        at(second),
        CanaryPolicy(steps=(5.0, 50.0, 100.0), threshold=0.01, overdue_ms=250.0, rescue=False),
        created_by="ada",
    )
    return structs.replace(rollout, **facts)


def following(rollout: Rollout, state: RolloutState, **facts: Any) -> Rollout:
    generation = rollout.generation + 1
    return structs.replace(rollout, state=state, generation=generation, updated_at=at(generation), **facts)


def event(rollout: Rollout, text: str = "It begins.", **facts: Any) -> RolloutEvent:
    """Return what tells of this generation of a rollout."""
    return RolloutEvent(rollout.id, rollout.generation, rollout.updated_at, rollout.state.value, text, facts)
