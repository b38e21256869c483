"""The immutable value that says, for each reference, which version answers and where its replicas are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct, structs

from app.core.model import Deployment, QueueLimits, Replica, Status, TrafficChoice
from app.core.route import Arm, Route


class Loss(Struct, frozen=True):
    """A replica that ended or was given up. by_itself: nobody outside killed or froze it. reason: for a person."""

    replica_id: str
    reason: str
    by_itself: bool


class Outlook(Struct, frozen=True):
    """The expectations for a model that loses replicas.

    coming: one is being started in the place of a lost one, or is about to be. losses: the last few.
    """

    coming: bool = False
    losses: tuple[Loss, ...] = ()


class Endpoint(Struct, frozen=True):
    """One version that takes traffic, or will as soon as the replica that is coming is there.

    side_effects: whether no request may be sent to it twice.
    """

    model_id: str
    name: str
    version: str
    replicas: tuple[Replica, ...]
    bounds: QueueLimits = QueueLimits()
    outlook: Outlook = Outlook()
    side_effects: bool = False


class NotServing(Struct, frozen=True):
    """A reference that exists but takes no traffic now, and why.

    returning: it is being brought (back) to life, so trying again soon makes sense. reason: why it has no replica, as
    far as callers may know it; "" if nothing went wrong. losses: of the replicas that it had, the last few.
    beside: the version that serves under this name without its requests, if any.
    """

    ref: str
    status: Status
    returning: bool
    reason: str = ""
    losses: tuple[Loss, ...] = ()
    beside: str = ""


class RouteTable(Struct, frozen=True):
    """The routes of all models.

    live, absent and awaited are keyed by each reference: a name, `name@version`, a model_id. live: takes traffic; a
    name leads to the main arm of its route. absent: does not. awaited: the absent ones whose requests wait, as a
    replica is coming.

    routes: by name, the versions that answer its requests; names that take no traffic have none. deployments, outlooks, splits: what the table was made of.
    """

    live: Mapping[str, Endpoint] = MappingProxyType({})
    absent: Mapping[str, NotServing] = MappingProxyType({})
    awaited: Mapping[str, Endpoint] = MappingProxyType({})
    routes: Mapping[str, Route] = MappingProxyType({})
    deployments: tuple[Deployment, ...] = ()
    outlooks: Mapping[str, Outlook] = MappingProxyType({})
    splits: Mapping[str, Route] = MappingProxyType({})

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints to which requests may be sent, by model_id."""
        return {endpoint.model_id: endpoint for endpoint in (*self.awaited.values(), *self.live.values())}

    def endpoint(self, ref: str) -> Endpoint | None:
        """Return the endpoint for requests to `ref`; None if nothing can answer them."""
        return self.live.get(ref) or self.awaited.get(ref)

    def with_split(self, name: str, split: Route) -> RouteTable:
        """Return the table of the same versions with another split of a name."""
        return route_table(self.deployments, self.outlooks, {**self.splits, name: split})


def refs_of(deployment: Deployment) -> tuple[str, str, str]:
    """Return the references to a deployment, from the least to the most specific."""
    return deployment.name, f"{deployment.name}@{deployment.version}", deployment.model_id


NOT_SERVING = (Status.UNHEALTHY, Status.STOPPED, Status.FAILED)


def is_serving(deployment: Deployment) -> bool:
    """Return whether a deployment takes traffic, also while replicas are started to take over from its present ones."""
    return bool(deployment.replicas) and deployment.wanted and deployment.status not in NOT_SERVING


def answers_its_name(deployment: Deployment) -> bool:
    """Return whether a deployment takes the requests for its name while no split of them is set."""
    return is_serving(deployment) and deployment.traffic is TrafficChoice.ALL


def is_down(deployment: Deployment) -> bool:
    """Whether a model that has been live, and still should be, takes no traffic.

    One that was never live is not down: it is on its first way to life, or failed there.
    """
    return deployment.wanted and bool(deployment.live_at) and not is_serving(deployment)


def superseded(deployments: Iterable[Deployment]) -> frozenset[str]:
    """Return the model_ids of versions that failed or stopped while a newer version of their name serves.

    They are history: nothing is missing without them.
    """
    entries = tuple(deployments)
    newest: dict[str, str] = {}
    for entry in filter(answers_its_name, entries):
        newest[entry.name] = max(entry.created_at, newest.get(entry.name, ""))
    over = (Status.FAILED, Status.STOPPED)
    return frozenset(
        entry.model_id for entry in entries if entry.status in over and entry.created_at < newest.get(entry.name, "")
    )


def wanted(deployments: Iterable[Deployment]) -> list[Deployment]:
    """Return the deployments that are asked to run, without those that a newer version has superseded."""
    entries = tuple(deployments)
    history = superseded(entries)
    return [entry for entry in entries if entry.wanted and entry.model_id not in history]


def failed_at_first(deployment: Deployment) -> bool:
    """Whether a model failed before it was ever live."""
    return deployment.status is Status.FAILED and not deployment.live_at


def newest_live(versions: Sequence[Deployment]) -> Deployment | None:
    """Return the version of a name that became live last, of those that answer its requests; None if none does.

    versions: in the order in which they became live.
    """
    return next((version for version in reversed(versions) if answers_its_name(version)), None)


def route_of(
    versions: Sequence[Deployment], split: Route | None, awaited: Mapping[str, Endpoint] = MappingProxyType({})
) -> Route | None:
    """Decide which versions of a name answer its requests. Returns None if none of them serves.

    Without a split, it is the newest live version, but for those that run beside another. With a split, an arm that is down gives its share to the others, in
    proportion; an arm of weight 0 gets nothing that way.

    versions: in the order in which they became live. awaited: as in `RouteTable`.
    """
    if split is not None:
        return split.restricted_to({version.model_id for version in versions if is_serving(version)}, awaited)
    newest = newest_live(versions)
    return Route((Arm(newest.model_id, 1.0),)) if newest is not None else None


def is_beside(deployment: Deployment, split: Route | None) -> bool:
    """Return whether a version gets no requests for its name."""
    return deployment.traffic is TrafficChoice.NONE if split is None else not split.weight(deployment.model_id)


def route_table(
    deployments: Iterable[Deployment],
    outlooks: Mapping[str, Outlook] = MappingProxyType({}),
    splits: Mapping[str, Route] = MappingProxyType({}),
) -> RouteTable:
    """Make the route table. A name follows its route, see `route_of`; other references lead to that very version.

    outlooks: by model_id, for models that lost replicas. splits: by name, where the requests for a name are split.
    """
    live: dict[str, Endpoint] = {}
    absent: dict[str, NotServing] = {}
    awaited: dict[str, Endpoint] = {}
    versions: dict[str, list[Deployment]] = {}
    ordered = sorted(deployments, key=lambda deployment: (deployment.live_at, deployment.created_at))
    for deployment in ordered:
        versions.setdefault(deployment.name, []).append(deployment)
        split = splits.get(deployment.name)
        outlook = outlooks.get(deployment.model_id, Outlook())
        endpoint = Endpoint(
            deployment.model_id,
            deployment.name,
            deployment.version,
            deployment.replicas,
            deployment.bounds,
            outlook,
            deployment.side_effects,
        )
        is_awaited = outlook.coming and deployment.wanted and deployment.status is Status.UNHEALTHY
        for ref in refs_of(deployment):
            if ref == deployment.name and is_beside(deployment, split):
                continue
            if is_serving(deployment):
                live[ref] = endpoint
                continue
            returning = deployment.wanted and deployment.status is not Status.FAILED
            absent[ref] = NotServing(
                ref, deployment.status, returning, (deployment.error or {}).get("title", ""), outlook.losses
            )
            if is_awaited:
                awaited[ref] = endpoint
            else:
                awaited.pop(ref, None)
    routes = {
        name: route for name in versions if (route := route_of(versions[name], splits.get(name), awaited)) is not None
    }
    live |= {name: live[route.main.model_id] for name, route in routes.items()}
    for deployment in ordered:
        if is_serving(deployment) and deployment.name not in routes:
            absence = absent.get(deployment.name) or NotServing(deployment.name, Status.STOPPED, returning=False)
            absent[deployment.name] = structs.replace(absence, beside=deployment.version)
    return RouteTable(
        MappingProxyType(live),
        MappingProxyType(absent),
        MappingProxyType(awaited),
        MappingProxyType(routes),
        tuple(ordered),
        MappingProxyType(dict(outlooks)),
        MappingProxyType(dict(splits)),
    )
