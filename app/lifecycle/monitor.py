"""Watches replicas and brings them back: health means that a prediction works, not that a port answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from msgspec import Struct

from app.core.model import Deployment, Model, Replica, Restart, Status
from app.core.route_table import serves
from app.errors import PrismError
from app.lifecycle.buildlog import telling_lines
from app.lifecycle.deployments import Deployments
from app.lifecycle.ledger import utc_now
from app.lifecycle.probe import Connect, answers_sample

log = structlog.get_logger(__name__)

FAILURES_TO_UNHEALTHY = 3
BACKOFF_FIRST_SECONDS = 10.0
BACKOFF_MAX_SECONDS = 300.0
HEALTHY_RESET_SECONDS = 600.0
CHECK_TIMEOUT_SECONDS = 5.0


def backoff_seconds(restarts_in_a_row: int) -> float:
    """How long to wait before the next restart: none before the first, then 10, 20, 40 … 300 s, as Kubernetes does."""
    if not restarts_in_a_row:
        return 0.0
    return min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** (restarts_in_a_row - 1))


class Watch(Struct):
    """What the monitor remembers of one model. Times are monotonic seconds."""

    failures: int = 0
    restarts_in_a_row: int = 0
    restarted_at: float = 0.0
    restart_due: float | None = None

    def healthy(self, now: float) -> None:
        self.failures = 0
        if self.restarts_in_a_row and now - self.restarted_at >= HEALTHY_RESET_SECONDS:
            self.restarts_in_a_row = 0

    def unhealthy(self, now: float) -> None:
        """Plan the restart."""
        self.failures = 0
        self.restart_due = now + backoff_seconds(self.restarts_in_a_row)

    def restarted(self, now: float) -> None:
        self.restart_due = None
        self.restarts_in_a_row += 1
        self.restarted_at = now


class Verdict(Struct, frozen=True):
    """Of one check. certain: no need to see it three times (the replica is gone, or frozen by someone)."""

    trouble: str = ""
    certain: bool = False


class Monitor:
    """Checks each live model every interval, and at once when a request finds its replica silent.

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
        self._watches: dict[str, Watch] = {}
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._nudges: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self.figures: dict[str, Any] = {}

    @property
    def running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    @property
    def restarting(self) -> tuple[str, ...]:
        """Models that are being brought back now, or wait for their backoff."""
        return tuple(sorted(self._restarts))

    def begin(self) -> None:
        self._loop = asyncio.create_task(self._run())

    async def end(self) -> None:
        tasks = [*self._restarts.values(), *self._nudges, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.cycle()
            except Exception:  # the monitor outlives whatever one cycle meets
                log.exception("a monitor cycle failed")
            await asyncio.sleep(self._interval_seconds)

    async def cycle(self) -> None:
        """Check every live model, then tidy up."""
        began = self._clock()
        live = [one for one in self._deployments.ledger.deployments() if serves(one)]
        verdicts = await asyncio.gather(*(self._check(one) for one in live))
        pruned = await self._deployments.prune_stale()
        if pruned:
            log.info("pruned", what=pruned)
        self._watches = {key: value for key, value in self._watches.items() if self._deployments.ledger.model(key)}
        self.figures = {
            "at": utc_now(),
            "duration_ms": round((self._clock() - began) * 1000, 1),
            "checked": len(live),
            "healthy": sum(not verdict.trouble for verdict in verdicts),
            "troubled": [one.model_id for one, verdict in zip(live, verdicts, strict=True) if verdict.trouble],
            "restarting": self.restarting,
            "pruned": pruned,
        }

    def suspect(self, model_id: str, reason: str) -> None:
        """A request found the replica silent or gone: look at once. Must not block."""
        if not self.running:
            return
        log.warning("a replica is suspect", model_id=model_id, reason=reason)
        nudge = asyncio.create_task(self._look_at(model_id, reason))
        self._nudges.add(nudge)
        nudge.add_done_callback(self._nudges.discard)

    async def _look_at(self, model_id: str, reason: str) -> None:
        with contextlib.suppress(PrismError):
            deployment = self._deployments.ledger.deployment(model_id)
            if serves(deployment):
                await self._check(deployment, silent=reason)

    async def _check(self, deployment: Deployment, silent: str = "") -> Verdict:
        model = self._deployments.ledger.model(deployment.model_id)
        if model is None or deployment.replica is None:
            return Verdict()
        verdict = await self._verdict(model, deployment.replica, silent)
        current = self._deployments.ledger.deployment(model.model_id)
        if current.replica != deployment.replica or not serves(current):
            return verdict  # replaced or stopped while it was being looked at
        watch = self._watches.setdefault(model.model_id, Watch())
        if not verdict.trouble:
            watch.healthy(self._clock())
            return verdict
        watch.failures += 1
        log.warning("a health check failed", model=model.ref, trouble=verdict.trouble, failures=watch.failures)
        if verdict.certain or watch.failures >= FAILURES_TO_UNHEALTHY:
            await self._bring_back(model, verdict.trouble)
        return verdict

    async def _verdict(self, model: Model, replica: Replica, silent: str) -> Verdict:
        try:
            state = await self._deployments.road.target(model).state(replica)
            if not state.running:
                return Verdict(state.detail or "it exited", certain=True)
            if state.frozen:
                return Verdict(f"it is frozen: {state.detail}" if state.detail else "it is frozen", certain=True)
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                link, _ = await self._connect(replica, CHECK_TIMEOUT_SECONDS)
                try:
                    patience = model.bounds.predict_timeout_seconds or self._patience_seconds
                    return Verdict(await answers_sample(model, link, patience))
                finally:
                    link.close()
        except TimeoutError:
            return Verdict(silent or f"it gave no answer within {CHECK_TIMEOUT_SECONDS:g} s", certain=bool(silent))
        except PrismError as error:
            return Verdict(error.detail)

    async def _bring_back(self, model: Model, reason: str) -> None:
        """Out of the traffic now; a new replica at once or after the backoff."""
        if model.model_id in self._restarts:
            return
        deployment = self._deployments.ledger.deployment(model.model_id)
        await self._deployments.ledger.update(model.model_id, status=Status.UNHEALTHY, error={"detail": reason})
        await self._deployments.road.publish_now()
        lines: list[str] = []
        if deployment.replica is not None:
            lines = await self._deployments.road.last_lines(model, deployment.replica)
        restart = Restart(at=utc_now(), reason=reason, lines=telling_lines(lines))
        watch = self._watches.setdefault(model.model_id, Watch())
        watch.unhealthy(self._clock())
        task = asyncio.create_task(self._restart(model, restart, watch))
        self._restarts[model.model_id] = task
        task.add_done_callback(lambda _: self._restarts.pop(model.model_id, None))

    async def _restart(self, model: Model, restart: Restart, watch: Watch) -> None:
        """Again and again, with growing pauses, until it lives or is not wanted any more."""
        while True:
            await asyncio.sleep(max(0.0, (watch.restart_due or 0.0) - self._clock()))
            if not self._still_down(model.model_id):
                return
            watch.restarted(self._clock())
            await self._deployments.replace_lost(model, restart)
            after = await self._deployments.settled(model.model_id)
            if serves(after) or not after.wanted:
                return
            watch.unhealthy(self._clock())
            await self._deployments.ledger.update(model.model_id, status=Status.UNHEALTHY)

    def _still_down(self, model_id: str) -> bool:
        """False once it was stopped, deleted, or started by someone in the meantime."""
        try:
            deployment = self._deployments.ledger.deployment(model_id)
        except PrismError:
            return False
        return deployment.wanted and deployment.status is Status.UNHEALTHY and not self._deployments.busy(model_id)
