"""Keeps what others do to a model from disturbing its rollout."""

from __future__ import annotations

from app.core.model import ModelVersion, TrafficChoice
from app.core.rollout.records import Rollout, RolloutKind, RolloutState
from app.errors import Conflict


def refuse_takeover(name: str, rollout: Rollout | None, traffic: TrafficChoice) -> None:
    """Raise Conflict for a version that would take all requests for a name while a rollout of it is active.

    One that takes none beside a live version may come.
    """
    if rollout is None or traffic is not TrafficChoice.ALL:
        return
    raise Conflict(
        f"`{name}` has an active rollout ({_told(rollout)}), which another version must not disturb.",
        hint=f"{end_it(rollout)}; or push it without traffic: `--strategy none`.",
        rollout=rollout.id,
    )


def refuse_start(model: ModelVersion, rollout: Rollout | None, *, serves: bool) -> None:
    """Raise Conflict where a start would give a version all requests for its name while a rollout of it is active.

    A version of the rollout itself may be started while it is down: it gets its share.
    """
    if rollout is None:
        return
    is_part = model.model_id in (rollout.stable_id, rollout.candidate_id)
    if is_part and not serves:
        return
    is_canary = rollout.kind is RolloutKind.CANARY
    if is_canary and model.model_id == rollout.candidate_id and rollout.state is not RolloutState.PROMOTED:
        hint = f"To give it all requests: `prism canary promote {model.name}`."
    else:
        hint = end_it(rollout) + "."
    raise Conflict(
        f"`{model.ref}` cannot take over the requests: `{model.name}` has an active rollout ({_told(rollout)}).",
        hint=hint,
        rollout=rollout.id,
    )


def refuse_stop(model: ModelVersion, rollout: Rollout | None) -> None:
    """Raise Conflict for a version that is in an active rollout: stopping it would decide the rollout unawares.

    Once the candidate is promoted, the version before it may be stopped; that ends the rollout.
    """
    if rollout is None or model.model_id not in (rollout.stable_id, rollout.candidate_id):
        return
    if rollout.state is RolloutState.PROMOTED and model.model_id == rollout.stable_id:
        return
    raise Conflict(
        f"`{model.ref}` is in an active rollout ({_told(rollout)}), so it is not stopped.",
        hint=f"{end_it(rollout)}.",
        rollout=rollout.id,
    )


def _told(rollout: Rollout) -> str:
    return f"{rollout.kind.value} {rollout.id}, {rollout.state.value}"


def end_it(rollout: Rollout) -> str:
    """Return how an active rollout is ended, for a person, without a full stop."""
    name = rollout.name
    if rollout.kind is RolloutKind.SHADOW:
        return f"Stop it first: `prism shadow stop {name}`"
    return f"End it first: `prism canary promote {name}` or `prism canary rollback {name}`"
