"""Chaos on purpose: an admin gives a running version a fault for a bounded time, which is over by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog
from msgspec import Struct

from app.core.chaos import Chaos, ChaosKind
from app.core.model import ModelVersion
from app.core.route_table import is_serving
from app.errors import Conflict
from app.lifecycle.deployments import Deployments

log = structlog.get_logger(__name__)

SetChaos = Callable[[str, "Chaos | None"], None]
"""Has the answers of a version, by model_id, spoilt from now on; None for as they are."""


class ActiveChaos(Struct, frozen=True):
    """A fault that acts. ends_at: monotonic seconds."""

    chaos: Chaos
    ends_at: float

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.ends_at - monotonic())


class ChaosControl:
    """The faults that act now, at most one for each version. A gateway that ends takes them with it."""

    def __init__(self, deployments: Deployments, set_chaos: SetChaos) -> None:
        self._deployments = deployments
        self._set_chaos = set_chaos
        self._active: dict[str, ActiveChaos] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def of(self, model_id: str) -> ActiveChaos | None:
        """Return what acts on a version; None if nothing does."""
        return self._active.get(model_id)

    async def begin(self, model: ModelVersion, chaos: Chaos) -> ActiveChaos:
        """Give a version a fault, in the place of the one that it has. Raises Conflict if it does not serve."""
        deployment = self._deployments.state.deployment(model.model_id)
        if not is_serving(deployment):
            raise Conflict(
                f"`{model.ref}` is {deployment.status}, so nothing can be broken there.",
                hint=f"Start it: `prism models start {model.ref}`.",
            )
        self.end(model.model_id)
        active = self._active[model.model_id] = ActiveChaos(chaos, monotonic() + chaos.seconds)
        self._timers[model.model_id] = asyncio.get_running_loop().call_later(chaos.seconds, self.end, model.model_id)
        log.warning("chaos begins", model=model.ref, fault=chaos.told, seconds=chaos.seconds)
        if chaos.kind is not ChaosKind.KILL:
            self._set_chaos(model.model_id, chaos)
            return active
        targets = self._deployments.pipeline.targets.known
        await asyncio.gather(
            *(targets[replica.target].stop(replica, grace_seconds=0) for replica in deployment.replicas)
        )
        return active

    def end(self, model_id: str) -> None:
        """End what acts on a version. Fine if nothing does."""
        if self._active.pop(model_id, None) is not None:
            self._timers.pop(model_id).cancel()
            self._set_chaos(model_id, None)
            log.warning("chaos is over", model_id=model_id)

    def end_all(self) -> None:
        for model_id in list(self._active):
            self.end(model_id)
