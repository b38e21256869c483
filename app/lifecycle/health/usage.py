"""What a replica uses now: its target is asked when a page wants to know, and the answer is kept for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from msgspec import Struct

from app.core.model import Deployment, Replica
from app.errors import PrismError
from app.lifecycle.deployments import Deployments
from app.runtime.target import ReplicaState

KEPT_SECONDS = 2.0
"""A target is asked no more often than this, however many pages ask."""


class ReplicaUsage(Struct, frozen=True):
    """The resource use of a replica.

    cores: processor use since the last sample; None at the first, or where it cannot be seen.
    """

    state: ReplicaState
    at: float
    cores: float | None = None


class UsageSampler:
    """The latest usage of each replica. clock: returns monotonic seconds."""

    def __init__(self, deployments: Deployments, clock: Callable[[], float] = monotonic) -> None:
        self._deployments = deployments
        self._clock = clock
        self._last: dict[str, ReplicaUsage] = {}

    async def of(self, wanted: Iterable[Deployment]) -> dict[str, ReplicaUsage]:
        """Return the usage of each replica, by its id, without those whose target could not be asked."""
        replicas = [replica for deployment in wanted for replica in deployment.replicas]
        usages = await asyncio.gather(*(self._look(replica) for replica in replicas))
        known = {replica.id for deployment in self._deployments.state.deployments() for replica in deployment.replicas}
        self._last = {key: value for key, value in self._last.items() if key in known}
        return {replica.id: vital for replica, vital in zip(replicas, usages, strict=True) if vital is not None}

    async def _look(self, replica: Replica) -> ReplicaUsage | None:
        before = self._last.get(replica.id)
        now = self._clock()
        if before is not None and now - before.at < KEPT_SECONDS:
            return before
        model = self._deployments.state.model(replica.model_id)
        if model is None:
            return None
        try:
            state = await self._deployments.pipeline.target(model).state(replica)
        except PrismError:
            return None
        cores = None
        if before is not None and state.cpu_seconds:
            cores = max(0.0, state.cpu_seconds - before.state.cpu_seconds) / (now - before.at)
        vital = self._last[replica.id] = ReplicaUsage(state, now, cores)
        return vital


class ModelUsage(Struct, frozen=True):
    """The resource use of several replicas together. cores: None while no replica's is known. replicas: how many."""

    memory_bytes: int
    cores: float | None
    replicas: int


def usage_of(deployment: Deployment, vitals: Mapping[str, ReplicaUsage]) -> ModelUsage:
    """Add up the usage of a model's replicas. vitals: as `UsageSampler.of` returns them."""
    usages = [vitals[replica.id] for replica in deployment.replicas if replica.id in vitals]
    cores = [vital.cores for vital in usages if vital.cores is not None]
    return ModelUsage(
        sum(vital.state.rss_bytes for vital in usages), sum(cores) if cores else None, len(deployment.replicas)
    )
