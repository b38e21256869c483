"""Lets a person put aside what a deployment reports, once it has been seen."""

from __future__ import annotations

from app.core.model import ModelVersion, Status
from app.core.route_table import is_serving
from app.errors import Conflict
from app.lifecycle.deployments import Deployments

CONSENT_SEEN = "consent_seen"
"""Name in a deployment's metadata: nobody needs to be reminded of its dangerous globals."""


async def dismiss(model: ModelVersion, deployments: Deployments) -> None:
    """Stop reporting a failure, the error of a change, or the consent to dangerous globals.

    A model that does not serve is not wanted from then on. Raises Conflict while work on the model goes on, which may
    still end well.
    """
    state = deployments.state
    deployment = state.deployment(model.model_id)
    serves = is_serving(deployment)
    lacks_replicas = serves and len(deployment.replicas) < state.replicas_wanted(model)
    if deployments.busy(model.model_id) or deployment.status is Status.UNHEALTHY or lacks_replicas:
        raise Conflict(
            f"`{model.ref}` is {deployment.status} and is still being worked on, so it cannot be dismissed.",
            hint=f"Wait for the end of it, or stop it: `prism models stop {model.ref}`.",
        )
    if serves:
        await state.update(model.model_id, error=None, metadata={**deployment.metadata, CONSENT_SEEN: True})
    else:
        await deployments.stop(model)
