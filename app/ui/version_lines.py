"""Contents of a model's page of versions: where each comes from, and what becomes of the traffic if it is made live."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from app.core.model import Deployment, ModelVersion, Status
from app.core.route_table import is_serving
from app.core.version_difference import Change, Difference, metrics_of
from app.lifecycle.deployments import Deployments
from app.lifecycle.replacement import replacement_by
from app.ui.figures import percent
from app.ui.statuses import Badge, badge, in_progress


class VersionLine(Struct, frozen=True):
    """One version. share: of the requests for the name, as text. metrics: numbers of its metadata, as text.

    facts: the rest of its metadata. verb: what the button says that makes it live, "" where none is offered.
    consequences: what that button does, a sentence each.
    """

    model: ModelVersion
    badge: Badge
    share: str
    metrics: str
    facts: Sequence[tuple[str, str]]
    verb: str
    consequences: Sequence[str]


class ChangeShown(Struct, frozen=True):
    """One difference of two versions. what: such as "Package numpy"."""

    what: str
    before: str
    after: str


def version_lines(name: str, deployments: Deployments) -> list[VersionLine]:
    """Return the versions of a name, the newest first."""
    state = deployments.state
    versions = [model for model in state.versions(name) if state.has_deployment(model.model_id)]
    return [_line(model, state.deployment(model.model_id), deployments) for model in reversed(versions)]


def _line(model: ModelVersion, deployment: Deployment, deployments: Deployments) -> VersionLine:
    route = deployments.state.route(model.name)
    share = route.weight(model.model_id) if route is not None else 0.0
    metrics = metrics_of(model.spec.metadata)
    offered = share < 1.0 and not in_progress(deployment) and deployment.status is not Status.FAILED
    main = deployments.state.find(model.name)
    earlier = model.identity.created_at < main.identity.created_at
    return VersionLine(
        model=model,
        badge=badge(deployment),
        share=percent(share) if is_serving(deployment) else "",
        metrics=", ".join(f"{metric} {value:g}" for metric, value in metrics.items()),
        facts=[(fact, str(value)) for fact, value in model.spec.metadata.items() if fact not in (*metrics, "metrics")],
        verb=("Roll back to" if earlier else "Switch to") if offered else "",
        consequences=_consequences(model, deployment, deployments) if offered else (),
    )


def _consequences(model: ModelVersion, deployment: Deployment, deployments: Deployments) -> list[str]:
    """Say what a start of this version does, as things are now."""
    others = [
        other
        for other in deployments.state.deployments()
        if other.name == model.name and other.model_id != model.model_id and is_serving(other)
    ]
    stopped = ", ".join(f"{model.name}@{other.version}" for other in others)
    if is_serving(deployment):
        told = [f"{model.version} runs already and takes all requests at once."]
    else:
        told = [
            f"{model.version} starts and answers its sample first. Then it takes all requests; none fails meanwhile."
        ]
    told += [f"After that, {stopped} stops."] if stopped else []
    stops = replacement_by(deployments, model).stops
    return [*told, *([f"This also stops {', '.join(stops)}: one model is live at a time."] if stops else [])]


def changes_shown(found: Difference) -> list[ChangeShown]:
    """Return the lines of a comparison: only what differs."""
    groups: tuple[tuple[str, Sequence[Change]], ...] = (
        ("Size in bytes", [found.size_bytes]),
        ("Python", [found.python]),
        ("Input ", found.inputs),
        ("Output ", found.outputs),
        ("Package ", found.packages),
        ("Metric ", found.metrics),
        ("Speed-up, rows ", found.speedup),
    )
    return [
        ChangeShown(f"{what}{change.name if what.endswith(' ') else ''}", _fact(change.before), _fact(change.after))
        for what, changes in groups
        for change in changes
        if change.before != change.after
    ]


def _fact(value: object) -> str:
    return "–" if value is None else str(value)
