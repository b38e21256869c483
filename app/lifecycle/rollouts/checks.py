"""Checks what is asked of a rollout against the models there are, before anything changes."""

from __future__ import annotations

import difflib

from msgspec import Struct

from app.core.model import ModelVersion
from app.core.rollout.canary import Versions
from app.core.rollout.compatibility import breaking_changes, told
from app.core.rollout.records import CanaryPolicy, Rollout
from app.errors import BadInput, Conflict, NotFound
from app.lifecycle.rollouts.guards import end_it
from app.lifecycle.state import DeploymentState


class CanaryRequest(Struct, frozen=True):
    """What a person asks for. candidate: the number of a version, `name@version` or a model_id."""

    name: str
    candidate: str
    policy: CanaryPolicy
    allow_signature_change: bool = False
    created_by: str = ""


class Pair(Struct, frozen=True):
    """The version that answers now, and the one that may take over."""

    stable: ModelVersion
    candidate: ModelVersion

    @property
    def versions(self) -> Versions:
        return Versions(self.stable.version, self.candidate.version)

    @property
    def has_side_effects(self) -> bool:
        """Whether no request may be answered by both."""
        return self.stable.spec.side_effects or self.candidate.spec.side_effects


def pair_of(request: CanaryRequest, state: DeploymentState) -> Pair:
    """Find the versions of a canary.

    Raises NotFound for an unknown name or version, with the nearest; Conflict if no version is live or the name has an
    active rollout; BadInput if the candidate is the stable version, or production's callers would break on it.
    """
    candidate = version_of(request.name, request.candidate, state)
    refuse_second(request.name, state.rollout(request.name))
    endpoint = state.live_endpoint(request.name)
    stable = state.model(endpoint.model_id) if endpoint is not None else None
    if stable is None:
        raise Conflict(
            f"No version of `{request.name}` is live, so there is none to go back to.",
            hint=f"Start the version itself: `prism models start {candidate.ref}`.",
        )
    if stable.model_id == candidate.model_id:
        raise BadInput(
            f"`{candidate.ref}` answers all requests for `{request.name}` already, so it cannot be its own candidate.",
            hint=f"Name another one: `prism versions {request.name}` lists them.",
        )
    pair = Pair(stable, candidate)
    if not request.allow_signature_change:
        refuse_breaking(pair)
    return pair


def refuse_second(name: str, active: Rollout | None) -> None:
    """Raise Conflict if a name has an active rollout."""
    if active is not None:
        raise Conflict(
            f"`{name}` has an active rollout already: {active.kind.value} {active.id}, {active.state.value}.",
            hint=f"{end_it(active)}.",
            rollout=active.id,
        )


def refuse_breaking(pair: Pair) -> None:
    """Raise BadInput if callers of the stable version would break on the candidate, as far as both are known."""
    before, after = pair.stable.findings.signature, pair.candidate.findings.signature
    changes = breaking_changes(before, after) if before is not None and after is not None else ()
    if changes:
        raise BadInput(
            f"Callers of `{pair.stable.ref}` would break on `{pair.candidate.ref}`: {told(changes)}.",
            hint="Keep the signature, or allow the change with `--allow-signature-change`.",
            changes=list(changes),
        )


def version_of(name: str, sought: str, state: DeploymentState) -> ModelVersion:
    """Find a version by its number, `name@version` or model_id. Raises NotFound, with the nearest."""
    known = state.versions(name)
    if not known:
        names = sorted({model.name for model in state.models()})
        raise _unknown(f"There is no model `{name[:200]}`.", name, names, "`prism ls` lists all models.")
    for model in known:
        if sought in (model.version, model.ref, model.model_id):
            return model
    numbers = [model.version for model in known]
    raise _unknown(
        f"`{name}` has no version `{sought[:200]}`.",
        sought,
        numbers,
        f"It has {', '.join(numbers[-8:])}.",
    )


def _unknown(detail: str, sought: str, known: list[str], hint: str) -> NotFound:
    near = difflib.get_close_matches(sought, known, n=1)
    return NotFound(detail, hint=f"Did you mean `{near[0]}`? {hint}" if near else hint)
