"""Replicas that were already running: an earlier gateway's are adopted, unknown ones are stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog
from msgspec import structs

from app.core.model import ModelVersion, Replica, Status, VariantName
from app.errors import PrismError
from app.lifecycle.pipeline import DeploymentPipeline
from app.lifecycle.probe import CHECK_TIMEOUT_SECONDS, Connect
from app.lifecycle.state import DeploymentState, utc_now

log = structlog.get_logger(__name__)


class Adoption:
    """The adoption of running replicas: those that answer are adopted, and those that nobody wants are stopped."""

    def __init__(self, state: DeploymentState, pipeline: DeploymentPipeline, connect: Connect) -> None:
        self._state = state
        self._pipeline = pipeline
        self._connect = connect

    async def adopt(
        self, model: ModelVersion, running: Iterable[Replica], *, registry_lost: bool
    ) -> tuple[Replica, ...]:
        """Adopt as many recorded replicas of a wanted model as are wanted; kill all other replicas of the model.

        registry_lost: there was no record, so every replica in the wanted variant counts as recorded.
        """
        ours = [replica for replica in running if replica.model_id == model.model_id]
        deployment = self._state.deployment(model.model_id)
        known = {replica.id: replica for replica in deployment.replicas}
        variant = model.variant.name if model.variant else VariantName.ORIGINAL
        candidates = [
            known.get(replica.id, replica)
            for replica in ours
            if replica.variant is variant and (registry_lost or replica.id in known)
        ]
        answering = await asyncio.gather(*(self._answers(candidate) for candidate in candidates))
        adopted = [
            replica for replica, answers in zip(candidates, answering, strict=True) if answers and deployment.wanted
        ]
        adopted = sorted(adopted, key=lambda replica: replica.number)[: model.spec.replicas]
        adopted = adopted if known else renumbered(adopted)
        kept = {replica.id for replica in adopted}
        await asyncio.gather(
            *(self._pipeline.starter.kill(model, replica) for replica in ours if replica.id not in kept)
        )
        await self._record(model, tuple(adopted))
        return tuple(adopted)

    async def _record(self, model: ModelVersion, adopted: tuple[Replica, ...]) -> None:
        deployment = self._state.deployment(model.model_id)
        if not adopted:
            if deployment.replicas:
                await self._state.update(model.model_id, replicas=())
            return
        log.info("adopted running replicas", model=model.ref, replicas=[replica.id for replica in adopted])
        live_at = deployment.live_at or utc_now()
        await self._state.update(
            model.model_id, status=Status.LIVE, replicas=adopted, target=adopted[0].target, live_at=live_at
        )

    async def prune(self, is_worked_on: Callable[[str], bool]) -> list[str]:
        """Drop entries whose model is gone, and stop replicas that no entry lists. Returns what that was, for a person.

        is_worked_on: whether a job works on a model_id. Replicas of such a model may not be recorded yet.
        """
        stale = [
            deployment.model_id
            for deployment in self._state.deployments()
            if self._state.model(deployment.model_id) is None
        ]
        for model_id in stale:
            await self._state.forget(model_id)
        known = {replica.id for deployment in self._state.deployments() for replica in deployment.replicas}
        pruned = [f"entry {model_id}" for model_id in stale]
        for target in self._pipeline.targets.offered.values():
            for replica in await target.replicas():
                if replica.id not in known and not is_worked_on(replica.model_id):
                    await target.stop(replica, 0)
                    pruned.append(f"replica {replica.id} of {replica.model_id}")
        return pruned

    async def _answers(self, replica: Replica) -> bool:
        try:
            connection, _ = await self._connect(replica, CHECK_TIMEOUT_SECONDS)
        except PrismError:
            return False
        connection.close()
        return True


def renumbered(replicas: Iterable[Replica]) -> list[Replica]:
    """Number replicas from 1 on: their numbers were only in the lost record."""
    return [structs.replace(replica, number=number) for number, replica in enumerate(replicas, 1)]
