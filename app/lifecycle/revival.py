"""Brings replicas back that were lost: each at once the first time, then after pauses that grow, while others serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from app.core.model import Model, Replica, Status
from app.core.route_table import serves
from app.errors import PrismError
from app.lifecycle.backoff import Watch
from app.lifecycle.deployments import Deployments

log = structlog.get_logger(__name__)


class Revival:
    """The watches of replicas that run, by their ids, and of those that are down. clock: monotonic seconds."""

    def __init__(self, deployments: Deployments, clock: Callable[[], float]) -> None:
        self._deployments = deployments
        self._ledger = deployments.ledger
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._down: dict[str, list[Watch]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """Models of which replicas are being brought back now, or wait for their pause to end."""
        return tuple(sorted(self._tasks))

    async def end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def watch(self, replica: Replica) -> Watch:
        return self._watches.setdefault(replica.id, Watch())

    def lost(self, model: Model, replica: Replica) -> None:
        """It was taken out of the traffic: another one is due in its place."""
        watch = self._watches.pop(replica.id, Watch())
        self._bring_back(model, [watch])

    def look_for_missing(self) -> None:
        """Replicas that did not start, and that nobody else is starting, are tried again, after the first pause."""
        for one in self._ledger.deployments():
            model = self._ledger.model(one.model_id)
            down = len(self._down.get(one.model_id, ()))
            is_meant = one.wanted and (serves(one) or one.status is Status.UNHEALTHY)
            if model is None or not is_meant or self._deployments.busy(one.model_id):
                continue
            missing = self._ledger.replicas_wanted(model) - len(one.replicas) - down
            if missing > 0:
                self._bring_back(model, [Watch(restarts_in_a_row=1) for _ in range(missing)])

    def forget_gone(self) -> None:
        known = {replica.id for one in self._ledger.deployments() for replica in one.replicas}
        self._watches = {id: watch for id, watch in self._watches.items() if id in known}

    def _bring_back(self, model: Model, watches: list[Watch]) -> None:
        for watch in watches:
            watch.down(self._clock())
        model_id = model.model_id
        self._down.setdefault(model_id, []).extend(watches)
        self._news.setdefault(model_id, asyncio.Event()).set()
        if model_id not in self._tasks:
            task = self._tasks[model_id] = asyncio.create_task(self._run(model), name=f"bring back {model.ref}")
            task.add_done_callback(lambda _: self._over(model_id))

    def _over(self, model_id: str) -> None:
        del self._tasks[model_id], self._down[model_id], self._news[model_id]

    async def _run(self, model: Model) -> None:
        """Again and again, until none is missing or the model is not wanted any more."""
        down = self._down[model.model_id]
        while down:
            due = await self._due(model.model_id, down)
            try:
                if not self._is_short(model) or not await self._refill(model, down, due):
                    return
            except PrismError:  # it was deleted
                return
            except Exception:  # it is tried again, as after any failure
                log.exception("replicas could not be brought back", model=model.ref)
                for watch in due:
                    watch.down(self._clock())

    async def _due(self, model_id: str, down: list[Watch]) -> list[Watch]:
        """Those whose pause is over; waits for the first."""
        while True:
            now = self._clock()
            due = [watch for watch in down if watch.restart_due <= now]
            if due:
                return due
            self._news[model_id].clear()
            try:
                wait = min(watch.restart_due for watch in down) - now
                await asyncio.wait_for(self._news[model_id].wait(), wait)
            except TimeoutError:
                continue

    def _is_short(self, model: Model) -> bool:
        """False once it was stopped, deleted, or filled up by someone in the meantime."""
        deployment = self._ledger.deployment(model.model_id)
        is_meant = deployment.wanted and (serves(deployment) or deployment.status is Status.UNHEALTHY)
        return is_meant and len(deployment.replicas) < self._ledger.replicas_wanted(model)

    async def _refill(self, model: Model, down: list[Watch], due: list[Watch]) -> bool:
        """Start as many as are due; those that come get the watches of those that went. False if that was all."""
        for watch in due:
            watch.restarted(self._clock())
        before = {replica.id for replica in self._ledger.deployment(model.model_id).replicas}
        after = await self._deployments.refill(model, len(due))
        come = [replica for replica in after.replicas if replica.id not in before]
        for replica, watch in zip(come, due, strict=False):
            self._watches[replica.id] = watch
            down.remove(watch)
        for watch in due[len(come) :]:
            watch.down(self._clock())
        if after.wanted and not serves(after) and after.status is not Status.UNHEALTHY:
            await self._ledger.update(model.model_id, status=Status.UNHEALTHY)
            await self._deployments.road.publisher.follow()
        return after.wanted and len(after.replicas) < self._ledger.replicas_wanted(model)
