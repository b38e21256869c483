"""The immutable value that says, per reference, which version answers and where its replicas are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from app.core.model import Bounds, Deployment, Replica, Status


class Endpoint(Struct, frozen=True):
    """One version that takes traffic."""

    model_id: str
    name: str
    version: str
    replicas: tuple[Replica, ...]
    bounds: Bounds = Bounds()


class Absence(Struct, frozen=True):
    """A reference that exists but takes no traffic now, and why.

    returning: it is being brought (back) to life, so trying again soon makes sense.
    """

    ref: str
    status: Status
    returning: bool


class RouteTable(Struct, frozen=True):
    """live and absent are keyed by every reference: a name, `name@version`, a model_id."""

    live: Mapping[str, Endpoint] = MappingProxyType({})
    absent: Mapping[str, Absence] = MappingProxyType({})

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """Endpoints by model_id."""
        return {endpoint.model_id: endpoint for endpoint in self.live.values()}


def references(deployment: Deployment) -> tuple[str, str, str]:
    """Least to most specific."""
    return deployment.name, f"{deployment.name}@{deployment.version}", deployment.model_id


NOT_SERVING = (Status.UNHEALTHY, Status.STOPPED, Status.FAILED)


def serves(deployment: Deployment) -> bool:
    """Whether it takes traffic: also while others are being started to take over from its present replicas."""
    return bool(deployment.replicas) and deployment.wanted and deployment.status not in NOT_SERVING


def route_table(deployments: Iterable[Deployment]) -> RouteTable:
    """A name goes to the version of it that became live last; the other references to that very version."""
    live: dict[str, Endpoint] = {}
    absent: dict[str, Absence] = {}
    for one in sorted(deployments, key=lambda each: (each.live_at, each.created_at)):
        for ref in references(one):
            if serves(one):
                live[ref] = Endpoint(one.model_id, one.name, one.version, one.replicas, one.bounds)
            else:
                absent[ref] = Absence(ref, one.status, one.wanted and one.status is not Status.FAILED)
    return RouteTable(MappingProxyType(live), MappingProxyType(absent))
