"""Header of a model's pages, the same on each: status, actions, endpoint and the other versions."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from msgspec import Struct

from app.core.model import Deployment, ModelVersion, Status
from app.core.rollout.records import RolloutKind
from app.core.route_table import is_serving
from app.lifecycle.state import DeploymentState
from app.ui.figures import percent
from app.ui.statuses import Badge, badge, in_progress


class ModelHead(Struct, frozen=True):
    """What the header shows. versions: all of that name, newest first.

    stops, starts, restarts: whether that action is offered. canary: what an active one gets, "" without one.
    """

    model: ModelVersion
    deployment: Deployment
    badge: Badge
    serves: bool
    stops: bool
    starts: bool
    restarts: bool
    endpoint: str
    versions: Sequence[tuple[ModelVersion, Badge]]
    canary: str


def model_head(model: ModelVersion, state: DeploymentState, base_url: str) -> ModelHead:
    """Gather the header. base_url: this server's URL as the browser sees it, without a trailing slash."""
    deployment = state.deployment(model.model_id)
    serves, busy, failed = is_serving(deployment), in_progress(deployment), deployment.status is Status.FAILED
    stops = serves or busy or (deployment.wanted and not failed)
    return ModelHead(
        model=model,
        deployment=deployment,
        badge=badge(deployment),
        serves=serves,
        stops=stops,
        starts=not stops and not failed,
        restarts=stops and not busy,
        endpoint=f"{base_url}/models/{quote(deployment.callable_ref, safe='@')}/predict",
        versions=[(other, badge(state.deployment(other.model_id))) for other in reversed(state.versions(model.name))],
        canary=_canary(model.name, state),
    )


def _canary(name: str, state: DeploymentState) -> str:
    rollout = state.rollout(name)
    candidate = state.model(rollout.candidate_id) if rollout is not None else None
    if rollout is None or candidate is None or rollout.kind is not RolloutKind.CANARY:
        return ""
    share = next((arm.weight for arm in rollout.arms if arm.model_id == candidate.model_id), 0.0)
    return f"Canary {candidate.version} at {percent(share)}"
