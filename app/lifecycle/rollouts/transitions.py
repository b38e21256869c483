"""Carries out what was decided of a canary, in the order that lets a gateway be killed at any moment.

rollback     divert the traffic, without waiting for anything; record it; drain and stop the candidate
promotion    record it; publish it; the stable version stays warm
its end      drain and stop the stable version; record it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from app.core.model import TrafficChoice
from app.core.rollout import canary as decisions
from app.core.rollout.records import Change, Rollout, RolloutState
from app.errors import CatalogUnavailable, Conflict, PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.rollouts.active import ActiveCanary
from app.lifecycle.rollouts.standing import Standing
from app.lifecycle.rollouts.store import RolloutStore

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


class Transitions:
    """The changes of canaries, each recorded and followed by the traffic. ended: is told of a rollout that is over."""

    def __init__(
        self,
        store: RolloutStore,
        deployments: Deployments,
        standing: Standing,
        clock: Callable[[], float],
        ended: Callable[[Rollout], None],
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._state = deployments.state
        self._publisher = deployments.pipeline.publisher
        self._standing = standing
        self._clock = clock
        self._ended = ended
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Do something in the background; `end` cancels it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)
        return task

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def make(self, canary: ActiveCanary, change: Change) -> None:
        """Record a change, then act on it, unless a rollback came first. The caller holds `changing`.

        Raises CatalogUnavailable; then the canary is as before.
        """
        base, coming = canary.rollout, change.rollout
        if coming.state is RolloutState.DONE:
            await self._stop(coming.stable_id)
        try:
            await self._store.change(coming, change.event)
        except Conflict:
            coming = await self._store.get(coming.id) or coming  # another gateway, or a write that was thought lost
        if canary.rollout is not base:
            return
        canary.rollout = coming
        log.info("a canary changed", rollout=coming.id, model=coming.name, state=coming.state, text=change.event.text)
        if not coming.is_active:
            self._ended(coming)
        elif coming.arms != base.arms:
            await self.publish(coming)
            canary.enter_step(self._clock())

    async def advance(self, canary: ActiveCanary, change: Change) -> bool:
        """Make a change that nobody asked for. Returns False while the database is away; it is decided again then."""
        try:
            async with canary.changing:
                if change.rollout.generation == canary.rollout.generation + 1:
                    await self.make(canary, change)
        except CatalogUnavailable as error:
            log.warning("a canary does not go on, as the database is away", rollout=canary.rollout.id, error=str(error))
            return False
        return True

    async def publish(self, rollout: Rollout) -> None:
        """Have the traffic follow a rollout, and record on this host which version answers without it."""
        self._state.hold(rollout)
        try:
            self._shift(rollout.name)
        except Conflict:  # an arm is not connected; it gets its share as soon as it is
            await self._publisher.follow()
        await self._mark(rollout)

    def divert(self, canary: ActiveCanary, change: Change) -> bool:
        """Move the traffic to the stable version before anything else; the record follows.

        Returns False if the stable version is not connected; then nothing has changed.
        """
        self._state.hold(change.rollout)
        try:
            self._shift(change.rollout.name)
        except Conflict as error:
            if self._standing.serves(canary.rollout.candidate_id):
                self._state.hold(canary.rollout)
                log.error("a canary cannot be rolled back", rollout=canary.rollout.id, error=str(error))
                return False
        canary.rollout = change.rollout
        log.warning("a canary was rolled back", rollout=change.rollout.id, reason=change.rollout.reason)
        self.spawn(self._settle_rollback(canary, change))
        return True

    async def stop_left_behind(self, limit: int) -> None:
        """Stop candidates of rollbacks whose gateway was killed before it could; not those started again since.

        limit: how many of the latest rollouts are looked at.
        """
        while True:
            try:
                rollouts = await self._store.list(limit=limit)
                break
            except CatalogUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
        for rollout in rollouts:
            if rollout.state is RolloutState.ROLLED_BACK and self._is_left_behind(rollout):
                await self._stop(rollout.candidate_id)

    def _is_left_behind(self, rollout: Rollout) -> bool:
        if not self._state.has_deployment(rollout.candidate_id):
            return False
        deployment = self._state.deployment(rollout.candidate_id)
        is_beside = deployment.wanted and deployment.traffic is TrafficChoice.NONE
        return is_beside and deployment.live_at < rollout.updated_at

    def _shift(self, name: str) -> None:
        """Move the traffic of a name at once. Raises Conflict if an arm that has a share is not connected."""
        split = self._state.splits.get(name)
        if split is not None:
            self._publisher.shift_traffic(name, split)

    async def _mark(self, rollout: Rollout) -> None:
        main = max(rollout.arms, key=lambda arm: arm.weight).model_id
        is_back = rollout.state is RolloutState.ROLLED_BACK
        await self._publisher.mark(rollout.name, main, rollout.candidate_id if is_back else "")

    async def _settle_rollback(self, canary: ActiveCanary, change: Change) -> None:
        """Record a rollback, now or as soon as the database is back, and stop the candidate."""
        try:
            await self._mark(change.rollout)
            recorded = await self._record_rollback(canary, change)
        finally:
            canary.tried.set()
        self._state.release(change.rollout)
        await self._stop(change.rollout.candidate_id)
        while not recorded:
            await asyncio.sleep(RETRY_SECONDS)
            recorded = await self._record_rollback(canary, change)
        self._ended(change.rollout)

    async def _record_rollback(self, canary: ActiveCanary, change: Change) -> bool:
        try:
            await self._store.change(change.rollout, change.event)
        except CatalogUnavailable as error:
            log.warning("a rollback is recorded later", rollout=change.rollout.id, error=str(error))
            return False
        except Conflict:  # a step was recorded in the moment of the rollback
            return await self._record_on_top(canary, change)
        return True

    async def _record_on_top(self, canary: ActiveCanary, change: Change) -> bool:
        """Record a rollback on top of what was recorded meanwhile."""
        try:
            recorded = await self._store.get(change.rollout.id)
            if recorded is None or not recorded.is_active:
                return True
            again = decisions.back_on_top(recorded, change)
            await self._store.change(again.rollout, again.event)
            canary.rollout = again.rollout
        except (CatalogUnavailable, Conflict):
            return False
        return True

    async def _stop(self, model_id: str) -> None:
        model = self._state.model(model_id)
        if model is None or not self._state.has_deployment(model_id):
            return
        try:
            await self._deployments.halt(model)
        except PrismError as error:
            log.error("a version of a rollout could not be stopped", model=model.ref, error=str(error))


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a rollout failed unexpectedly", exc_info=error)
