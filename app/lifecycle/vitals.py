"""What a replica uses now: asked of its target when a page wants to know, and kept for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from msgspec import Struct

from app.core.model import Deployment, Replica
from app.errors import PrismError
from app.lifecycle.deployments import Deployments
from app.runtime.target import ReplicaState

KEPT_SECONDS = 2.0
"""However many pages look, a target is asked no more often."""


class Vital(Struct, frozen=True):
    """cores: processor use since the look before, in cores; None at the first look, and where it cannot be seen."""

    state: ReplicaState
    at: float
    cores: float | None = None


class Vitals:
    """By replica. clock: monotonic seconds."""

    def __init__(self, deployments: Deployments, clock: Callable[[], float] = monotonic) -> None:
        self._deployments = deployments
        self._clock = clock
        self._last: dict[str, Vital] = {}

    async def of(self, wanted: Iterable[Deployment]) -> dict[str, Vital]:
        """By model_id, of those that have a replica which its target could be asked about."""
        replicas = [one.replica for one in wanted if one.replica is not None]
        found = await asyncio.gather(*(self._look(replica) for replica in replicas))
        known = {one.replica.id for one in self._deployments.ledger.deployments() if one.replica is not None}
        self._last = {key: value for key, value in self._last.items() if key in known}
        return {replica.model_id: vital for replica, vital in zip(replicas, found, strict=True) if vital is not None}

    async def _look(self, replica: Replica) -> Vital | None:
        before = self._last.get(replica.id)
        now = self._clock()
        if before is not None and now - before.at < KEPT_SECONDS:
            return before
        model = self._deployments.ledger.model(replica.model_id)
        if model is None:
            return None
        try:
            state = await self._deployments.road.target(model).state(replica)
        except PrismError:
            return None
        cores = None
        if before is not None and state.cpu_seconds:
            cores = max(0.0, state.cpu_seconds - before.state.cpu_seconds) / (now - before.at)
        vital = self._last[replica.id] = Vital(state, now, cores)
        return vital
