"""Says how the versions of a rollout stand on this host."""

from __future__ import annotations

from app.core.model import Deployment, Status
from app.core.rollout.canary import Versions
from app.core.rollout.records import Rollout
from app.core.route_table import is_serving
from app.lifecycle.state import DeploymentState


class Standing:
    """The versions of rollouts, as the registry of this host has them."""

    def __init__(self, state: DeploymentState) -> None:
        self._state = state

    def versions(self, rollout: Rollout) -> Versions:
        """Return the version numbers of a rollout; a model_id in the place of one that was deleted."""
        return Versions(self.number(rollout.stable_id), self.number(rollout.candidate_id))

    def number(self, model_id: str) -> str:
        model = self._state.model(model_id)
        return model.version if model is not None else model_id

    def serves(self, model_id: str) -> bool:
        return self._state.has_deployment(model_id) and is_serving(self._state.deployment(model_id))

    def lost(self, model_id: str) -> str:
        """Return why a version will not come back by itself; "" if it serves or may."""
        number = self.number(model_id)
        if not self._state.has_deployment(model_id):
            return f"{number} was deleted"
        deployment = self._state.deployment(model_id)
        if not deployment.wanted:
            return f"{number} was stopped"
        return f"{number} failed: {failure(deployment)}" if deployment.status is Status.FAILED else ""


def failure(deployment: Deployment) -> str:
    """Return why a version does not serve, for a person."""
    error = deployment.error or {}
    return str(error.get("detail") or error.get("title") or f"it is {deployment.status.value}")
