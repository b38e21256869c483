"""The immutable value that says, for each reference, which version answers and where its replicas are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from app.core.model import Deployment, QueueLimits, Replica, Status


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
    """One version that takes traffic, or will as soon as the replica that is coming is there."""

    model_id: str
    name: str
    version: str
    replicas: tuple[Replica, ...]
    bounds: QueueLimits = QueueLimits()
    outlook: Outlook = Outlook()


class NotServing(Struct, frozen=True):
    """A reference that exists but takes no traffic now, and why.

    returning: it is being brought (back) to life, so trying again soon makes sense. reason: why it has no replica, as
    far as callers may know it; "" if nothing went wrong. losses: of the replicas that it had, the last few.
    """

    ref: str
    status: Status
    returning: bool
    reason: str = ""
    losses: tuple[Loss, ...] = ()


class RouteTable(Struct, frozen=True):
    """The routes of all models. Every map is keyed by each reference: a name, `name@version`, a model_id.

    live: takes traffic. absent: does not. awaited: the absent ones whose requests wait, as a replica is coming.
    """

    live: Mapping[str, Endpoint] = MappingProxyType({})
    absent: Mapping[str, NotServing] = MappingProxyType({})
    awaited: Mapping[str, Endpoint] = MappingProxyType({})

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints to which requests may be sent, by model_id."""
        return {endpoint.model_id: endpoint for endpoint in (*self.awaited.values(), *self.live.values())}

    def endpoint(self, ref: str) -> Endpoint | None:
        """Return the endpoint for requests to `ref`; None if nothing can answer them."""
        return self.live.get(ref) or self.awaited.get(ref)


def refs_of(deployment: Deployment) -> tuple[str, str, str]:
    """Return the references to a deployment, from the least to the most specific."""
    return deployment.name, f"{deployment.name}@{deployment.version}", deployment.model_id


NOT_SERVING = (Status.UNHEALTHY, Status.STOPPED, Status.FAILED)


def is_serving(deployment: Deployment) -> bool:
    """Return whether a deployment takes traffic, also while replicas are started to take over from its present ones."""
    return bool(deployment.replicas) and deployment.wanted and deployment.status not in NOT_SERVING


def is_down(deployment: Deployment) -> bool:
    """Whether a model that has been live, and still should be, takes no traffic.

    One that was never live is not down: it is on its first way to life, or failed there.
    """
    return deployment.wanted and bool(deployment.live_at) and not is_serving(deployment)


def failed_at_first(deployment: Deployment) -> bool:
    """Whether a model failed before it was ever live."""
    return deployment.status is Status.FAILED and not deployment.live_at


def route_table(
    deployments: Iterable[Deployment], outlooks: Mapping[str, Outlook] = MappingProxyType({})
) -> RouteTable:
    """Make the route table. A name leads to its version that became live last, other references to that very version.

    outlooks: by model_id, for models that lost replicas.
    """
    live: dict[str, Endpoint] = {}
    absent: dict[str, NotServing] = {}
    awaited: dict[str, Endpoint] = {}
    for one in sorted(deployments, key=lambda each: (each.live_at, each.created_at)):
        outlook = outlooks.get(one.model_id, Outlook())
        endpoint = Endpoint(one.model_id, one.name, one.version, one.replicas, one.bounds, outlook)
        is_awaited = outlook.coming and one.wanted and one.status is Status.UNHEALTHY
        for ref in refs_of(one):
            if is_serving(one):
                live[ref] = endpoint
                continue
            returning = one.wanted and one.status is not Status.FAILED
            absent[ref] = NotServing(ref, one.status, returning, (one.error or {}).get("title", ""), outlook.losses)
            if is_awaited:
                awaited[ref] = endpoint
            else:
                awaited.pop(ref, None)
    return RouteTable(MappingProxyType(live), MappingProxyType(absent), MappingProxyType(awaited))
