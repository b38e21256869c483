"""Checks what is asked of a shadow against the models there are, before anything changes."""

from __future__ import annotations

from msgspec import Struct

from app.core.model import ModelVersion
from app.errors import BadInput, Conflict
from app.lifecycle.rollouts.checks import Pair, refuse_breaking, refuse_second, version_of
from app.lifecycle.state import DeploymentState


class ShadowRequest(Struct, frozen=True):
    """What a person asks for. production, shadow: the number of a version, `name@version` or a model_id.

    production: "" stands for the version that answers the requests for the name.
    """

    name: str
    production: str
    shadow: str
    allow_signature_change: bool = False
    created_by: str = ""


def shadow_pair_of(request: ShadowRequest, state: DeploymentState) -> Pair:
    """Find the versions of a shadow: the stable one is production, the candidate is the shadow.

    Raises NotFound for an unknown name or version, with the nearest; Conflict if no version is live, another one than
    the wanted answers, or the name has an active rollout; BadInput if both are the same version, one of them has side
    effects, or the shadow does not understand production's requests.
    """
    shadow = version_of(request.name, request.shadow, state)
    production = version_of(request.name, request.production, state) if request.production else None
    refuse_second(request.name, state.rollout(request.name))
    live = _live(request.name, state)
    if live is None:
        raise Conflict(
            f"No version of `{request.name}` is live, so there are no requests to copy.",
            hint=f"Start one: `prism models start {(production or shadow).ref}`.",
        )
    if shadow.model_id in (live.model_id, production.model_id if production is not None else ""):
        raise BadInput(
            f"`{shadow.ref}` is the production version, so it cannot be its own shadow.",
            hint=f"Name another one: `prism versions {request.name}` lists them.",
        )
    if production is not None and production.model_id != live.model_id:
        raise Conflict(
            f"`{production.ref}` does not answer the requests for `{request.name}`: {live.version} does.",
            hint=f"Name {live.version} as the production version, or give {production.version} the requests first.",
        )
    pair = Pair(live, shadow)
    refuse_side_effects(pair)
    if not request.allow_signature_change:
        refuse_breaking(pair)
    return pair


def refuse_side_effects(pair: Pair) -> None:
    """Raise BadInput if a request must not be repeated, which each copy does."""
    for model in (pair.candidate, pair.stable):
        if model.spec.side_effects:
            raise BadInput(
                f"`{model.ref}` is declared to have side effects, so no request for `{model.name}` is copied: each "
                "would have its effect twice.",
                hint="Register the version without `side_effects` if its predictions change nothing outside the model.",
            )


def _live(name: str, state: DeploymentState) -> ModelVersion | None:
    endpoint = state.live_endpoint(name)
    return state.model(endpoint.model_id) if endpoint is not None else None
