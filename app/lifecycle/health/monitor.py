"""Watches replicas and restarts them: a replica is healthy if a prediction works, not if a port answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from msgspec import Struct, structs

from app.core.model import Deployment, ModelVersion, Replica
from app.core.route_table import is_serving, wanted
from app.errors import NotFound, PrismError, TargetUnavailable, TooManyOpenFiles
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.restarts import ReplicaRestarter
from app.lifecycle.probe import CHECK_TIMEOUT_SECONDS, Connect, answers_sample
from app.lifecycle.state import utc_now
from app.runtime.target import ReplicaState, Target

log = structlog.get_logger(__name__)

FAILURES_TO_UNHEALTHY = 3

LOOK_AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Pauses between checks of a replica that dropped its connection. A killed process still exists for a moment; a replica
that accepts no connection after all these pauses is lost.
"""


class HealthResult(Struct, frozen=True):
    """The result of one check.

    trouble: what is wrong, "" if nothing is. certain: whether one check is enough (the replica is gone, or somebody
    froze it). reached: whether the replica accepted a connection. by_itself: whether nobody killed or froze it.
    """

    trouble: str = ""
    certain: bool = False
    reached: bool = True
    by_itself: bool = True


class Monitor:
    """The health monitor. It checks each live replica every interval, and at once when a request finds one silent.

    patience_seconds: how long a replica may work on one batch before that counts as a failed check.
    """

    def __init__(
        self,
        deployments: Deployments,
        connect: Connect,
        interval_seconds: float,
        patience_seconds: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._deployments = deployments
        self._connect = connect
        self._interval_seconds = interval_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._revival = ReplicaRestarter(deployments, clock)
        self._nudges: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        self.figures: dict[str, Any] = {}
        self.unavailable: tuple[str, ...] = ()
        """The targets, by name, that are needed and did not answer in the last cycle."""

    @property
    def running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    @property
    def restarting(self) -> tuple[str, ...]:
        """The models that are being restarted now or wait for their backoff."""
        return self._revival.models

    def begin(self) -> None:
        self._loop = asyncio.create_task(self._run())

    async def end(self) -> None:
        tasks = [*self._nudges.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._revival.end()

    async def _run(self) -> None:
        while True:
            try:
                await self.cycle()
            except Exception:  # the monitor outlives whatever one cycle meets
                log.exception("a monitor cycle failed")
            await asyncio.sleep(self._interval_seconds)

    async def cycle(self) -> None:
        """Check the targets and every live replica, have missing ones started, then clean up."""
        began = self._clock()
        await self._look_for_targets()
        live = [deployment for deployment in self._deployments.state.deployments() if is_serving(deployment)]
        looks = [(deployment, replica) for deployment in live for replica in deployment.replicas]
        verdicts = await asyncio.gather(*(self._check(deployment, replica) for deployment, replica in looks))
        self._revival.look_for_missing()
        pruned = [] if self.unavailable else await self._deployments.prune_stale()
        if pruned:
            log.info("pruned", what=pruned)
        self._revival.forget_gone()
        troubled = {
            deployment.model_id for (deployment, _), verdict in zip(looks, verdicts, strict=True) if verdict.trouble
        }
        self.figures = {
            "at": utc_now(),
            "duration_ms": round((self._clock() - began) * 1000, 1),
            "checked": len(live),
            "checked_replicas": len(looks),
            "healthy": len(live) - len(troubled),
            "troubled": sorted(troubled),
            "restarting": self.restarting,
            "pruned": pruned,
        }

    async def _look_for_targets(self) -> None:
        """Find out which targets have gone, of those that this machine offered and those of wanted models."""
        targets = self._deployments.pipeline.targets
        used = {deployment.target for deployment in wanted(self._deployments.state.deployments())}
        needed = [target for name, target in targets.known.items() if name in targets.offered or name in used]
        answers = await asyncio.gather(*(asyncio.to_thread(is_available, target) for target in needed))
        gone = tuple(target.name for target, answers_now in zip(needed, answers, strict=True) if not answers_now)
        if gone != self.unavailable:
            log.warning("the targets that do not answer have changed", now=gone, before=self.unavailable)
        self.unavailable = gone

    def suspect(self, replica: Replica, reason: str) -> bool:
        """Check a replica at once, as a request found it silent or gone. Must not block.

        Returns False if the monitor does not run.
        """
        if not self.running:
            return False
        if replica.id in self._nudges:
            return True
        log.warning("a replica is suspect", model_id=replica.model_id, replica=replica.id, reason=reason)
        nudge = self._nudges[replica.id] = asyncio.create_task(self._look_at(replica, reason))
        nudge.add_done_callback(lambda _: self._nudges.pop(replica.id))
        return True

    async def _look_at(self, replica: Replica, reason: str) -> None:
        """Check a suspect replica until it is known whether it is lost."""
        model = self._deployments.state.model(replica.model_id)
        if model is None or not self._is_still_there(replica):
            return
        verdict = await self._verdict(model, replica, reason)
        for pause in LOOK_AGAIN_SECONDS:
            if verdict.reached or verdict.certain:
                break
            await asyncio.sleep(pause)
            verdict = await self._verdict(model, replica, reason)
        verdict = structs.replace(verdict, certain=verdict.certain or not verdict.reached)
        with contextlib.suppress(NotFound):  # it was deleted
            await self._heed(model, replica, verdict)

    async def _check(self, deployment: Deployment, replica: Replica) -> HealthResult:
        model = self._deployments.state.model(deployment.model_id)
        if model is None:
            return HealthResult()
        verdict = await self._verdict(model, replica)
        await self._heed(model, replica, verdict)
        return verdict

    async def _heed(self, model: ModelVersion, replica: Replica, verdict: HealthResult) -> None:
        if not self._is_still_there(replica):
            return  # replaced or stopped while it was being looked at
        watch = self._revival.watch(replica)
        if not verdict.trouble:
            watch.healthy(self._clock())
            return
        watch.failures += 1
        fields = {"model": model.ref, "replica": replica.id, "trouble": verdict.trouble, "failures": watch.failures}
        log.warning("a health check failed", **fields)
        if verdict.certain or watch.failures >= FAILURES_TO_UNHEALTHY:
            await self._revival.lose(model, replica, verdict.trouble, by_itself=verdict.by_itself)

    def _is_still_there(self, replica: Replica) -> bool:
        try:
            deployment = self._deployments.state.deployment(replica.model_id)
        except PrismError:
            return False
        return is_serving(deployment) and replica in deployment.replicas

    async def _state(self, model: ModelVersion, replica: Replica) -> ReplicaState:
        """Return what the target says of a replica. Of one whose target is gone, only a prediction can tell."""
        try:
            return await self._deployments.pipeline.target(model).state(replica)
        except TargetUnavailable:
            return ReplicaState(running=True)

    async def _verdict(self, model: ModelVersion, replica: Replica, silent: str = "") -> HealthResult:
        """Check a replica once.

        silent: why the replica is suspected, "" if it is not. A suspect that is silent now as well is lost. So is one
        that has been busy with one batch for half of the time that a request may take: dispatch gave it up for that,
        see dispatch/replica.py.
        """
        try:
            state = await self._state(model, replica)
            if not state.running:
                return HealthResult(state.detail or "it exited", certain=True, by_itself=state.by_itself)
            if state.frozen:
                detail = f"it is frozen: {state.detail}" if state.detail else "it is frozen"
                return HealthResult(detail, certain=True, by_itself=state.by_itself)
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                connection, _ = await self._connect(replica, CHECK_TIMEOUT_SECONDS)
                try:
                    patience = model.spec.bounds.predict_timeout_seconds or self._patience_seconds
                    trouble = await answers_sample(model, connection, patience / 2 if silent else patience)
                    return HealthResult(trouble, certain=bool(trouble and silent))
                finally:
                    connection.close()
        except TooManyOpenFiles as error:  # a limit of this server, not a fault of the replica
            log.warning("a replica could not be checked", model=model.ref, replica=replica.id, error=str(error))
            return HealthResult()
        except TimeoutError:
            return HealthResult(silent or f"it gave no answer within {CHECK_TIMEOUT_SECONDS:g} s", certain=bool(silent))
        except PrismError as error:
            return HealthResult(error.detail, reached=False)


def is_available(target: Target) -> bool:
    """Return whether a target answers. Blocks, for seconds at worst."""
    try:
        target.require_available()
    except TargetUnavailable:
        return False
    return True
