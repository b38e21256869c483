"""Tells before anything is built what a deployment will replace, and after it went live what it has stopped."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from app.core.model import Deployment, ModelVersion, Status
from app.core.route_table import is_serving
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.register import boolean, is_kept, model_name
from app.lifecycle.publish import STOPPED_FOR_IT, serves_beside


class Replacement(Struct, frozen=True):
    """What a version that is deployed now would replace once it is live; other versions by their references.

    version: the number that it would have. kept: whether models of other names keep running beside it.
    replaces: versions of its own name. others: models of other names that are stopped unless it is kept.
    """

    name: str
    version: str
    kept: bool
    replaces: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def stops(self) -> tuple[str, ...]:
        """Return the models of other names that are stopped."""
        return () if self.kept else self.others


def replacement(deployments: Deployments, given: str, filename: str, keep: str = "") -> Replacement:
    """Foresee what an upload replaces. given, keep: the form's values, "" for none. Raises BadInput for either."""
    state, publisher = deployments.state, deployments.pipeline.publisher
    name = model_name(given, filename)
    rivals = publisher.rivals(name, kept=False)
    return Replacement(
        name=name,
        version=state.next_version(name),
        kept=is_kept(keep, name, state),
        replaces=refs(rival for rival in rivals if rival.name == name),
        others=refs(rival for rival in rivals if rival.name != name),
    )


def replacement_by(deployments: Deployments, model: ModelVersion, keep: str = "") -> Replacement:
    """Foresee what a model replaces if it is started: nothing if it serves. keep: "" for as it is. Raises BadInput."""
    deployment = deployments.state.deployment(model.model_id)
    rivals = deployments.pipeline.publisher.rivals(model.name, model.model_id, kept=False)
    if is_serving(deployment):
        rivals = []
    return Replacement(
        name=model.name,
        version=model.version,
        kept=boolean("keep", keep) if keep else serves_beside(model),
        replaces=refs(rival for rival in rivals if rival.name == model.name),
        others=refs(rival for rival in rivals if rival.name != model.name),
    )


def stopped_for(model: ModelVersion, deployments: Deployments) -> tuple[str, ...]:
    """Return the models of other names that this one stops once it is live, or has stopped when it became live."""
    deployment = deployments.state.deployment(model.model_id)
    if deployment.wanted and deployments.busy(model.model_id) and not is_serving(deployment):
        rivals = deployments.pipeline.publisher.rivals(model.name, model.model_id, kept=model.spec.keep)
        return refs(rival for rival in rivals if rival.name != model.name)
    stopped: Iterable[str] = deployment.metadata.get(STOPPED_FOR_IT, ()) if deployment.status is Status.LIVE else ()
    return tuple(stopped)


def refs(deployments: Iterable[Deployment]) -> tuple[str, ...]:
    return tuple(sorted(f"{deployment.name}@{deployment.version}" for deployment in deployments))
