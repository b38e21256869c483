"""Begins, judges, promotes and rolls back canaries.

The order of each change lets a gateway be killed at any moment and the next one resume one state:

rollback     divert the traffic, without waiting for anything; record it; drain and stop the candidate
promotion    record it; publish it; the stable version stays warm
its end      drain and stop the stable version; record it

What a running canary does not need, it does without: while the database is away it is judged, and rolled back if it
must be, and the record follows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from datetime import datetime
from time import monotonic
from typing import Any

import structlog

from app.core.model import TrafficChoice
from app.core.rollout import canary as decisions
from app.core.rollout.canary import Sight
from app.core.rollout.records import Change, Evidence, Rollout, RolloutKind, RolloutState
from app.core.route_table import is_serving
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound, PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.rollouts.active import ActiveCanary
from app.lifecycle.rollouts.checks import CanaryRequest, Pair, pair_of, refuse_breaking
from app.lifecycle.rollouts.standing import Standing, failure
from app.lifecycle.rollouts.store import RolloutStore
from app.lifecycle.state import utc_now

log = structlog.get_logger(__name__)

JUDGED_EVERY_SECONDS = 0.1
RETRY_SECONDS = 1.0
READY_SECONDS = 2.0
"""How long the start of a canary whose candidate serves already is waited for, so that its answer says so."""

RECENT = 100
"""How many rollouts a starting gateway looks through for candidates that a killed one did not stop."""

Command = Callable[[Rollout, Sight, str], Change | None]


class Canaries:
    """The canaries of one gateway: what a person asks of them, and what follows from the evidence.

    evidence: returns what dispatch counted of the candidate of a name. clock: monotonic seconds.
    """

    def __init__(
        self,
        store: RolloutStore,
        deployments: Deployments,
        evidence: Callable[[str], Evidence],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._state = deployments.state
        self.standing = Standing(self._state)
        self._publisher = deployments.pipeline.publisher
        self._evidence = evidence
        self._clock = clock
        self._active: dict[str, ActiveCanary] = {}  # by rollout id
        self._tasks: set[asyncio.Task[Any]] = set()
        self._judge: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def begin(self, request: CanaryRequest) -> Rollout:
        """Record a canary and have its candidate made ready; one that serves already gets its share at once.

        Raises what `pair_of` raises, and CatalogUnavailable.
        """
        pair = pair_of(request, self._state)
        change = decisions.begin(
            secrets.token_hex(6),
            request.name,
            pair.stable.model_id,
            pair.candidate.model_id,
            request.policy,
            pair.versions,
            utc_now(),
            request.created_by,
        )
        await self._store.begin(change.rollout, change.event)
        canary = self._enter(change.rollout)
        is_ready = self.standing.serves(pair.candidate.model_id)
        ready = self._spawn(self._make_ready(canary, allow_signature_change=request.allow_signature_change))
        if is_ready:
            await asyncio.wait([ready], timeout=READY_SECONDS)
        return canary.rollout

    async def get(self, rollout_id: str) -> Rollout:
        """Return a rollout as it is now. Raises NotFound, and CatalogUnavailable for one that is not active here."""
        canary = self._active.get(rollout_id)
        rollout = canary.rollout if canary is not None else await self._store.get(rollout_id)
        if rollout is None:
            raise NotFound(
                f"There is no rollout `{rollout_id[:100]}`.", hint="`prism canary status` lists those there are."
            )
        return rollout

    async def list(self, name: str = "", limit: int = RECENT) -> tuple[Rollout, ...]:
        """Return rollouts, the newest first, each as it is now. name: only this model's."""
        return tuple(
            self._active[rollout.id].rollout if rollout.id in self._active else rollout
            for rollout in await self._store.list(name, limit)
        )

    def state_of(self, rollout_id: str) -> RolloutState | None:
        """Return the state of a rollout that acts in this gateway; None for one that is finished and recorded."""
        canary = self._active.get(rollout_id)
        return canary.rollout.state if canary is not None else None

    def seen(self, rollout: Rollout) -> Sight:
        """Return what was seen of a candidate until now; without a trial for one that is not judged."""
        canary = self._active.get(rollout.id)
        return self._sight(canary) if canary is not None else self._blind(rollout)

    async def promote(self, rollout_id: str, by: str = "") -> Rollout:
        return await self._command(rollout_id, decisions.promote, by)

    async def pause(self, rollout_id: str, by: str = "") -> Rollout:
        return await self._command(rollout_id, decisions.pause, by)

    async def resume(self, rollout_id: str, by: str = "") -> Rollout:
        return await self._command(rollout_id, decisions.resume, by)

    async def roll_back(self, rollout_id: str, by: str = "") -> Rollout:
        """Give the stable version everything again, at once, also while the database is away.

        Raises NotFound, or Conflict where it is not possible. A repeated call changes nothing.
        """
        rollout = await self._canary(rollout_id)
        canary = self._active.get(rollout_id)
        reason = f"rolled back{by and f' by {by}'}"
        change = decisions.roll_back(rollout, self.seen(rollout), reason)
        if change is not None and canary is not None:
            if not self._divert(canary, change):
                raise Conflict(
                    f"{rollout.name}@{self.standing.number(rollout.stable_id)} has no replica that is connected right now.",
                    hint="Try again in a moment.",
                )
            await canary.tried.wait()
        return canary.rollout if canary is not None else rollout

    async def load(self) -> bool:
        """Take up the canaries that an earlier gateway left, before any traffic.

        Returns False if the database is away; then names lead to their stable versions until it is back.
        """
        try:
            active = await self._store.active()
        except CatalogUnavailable as error:
            log.warning("rollouts wait for the database", error=str(error))
            return False
        for rollout in active:
            if rollout.kind is RolloutKind.CANARY and rollout.id not in self._active:
                self._enter(rollout)
        return True

    async def resume_all(self) -> None:
        """Go on with the canaries that were taken up, once the deployments are; and stop candidates left behind."""
        for canary in list(self._active.values()):
            if canary.rollout.state is RolloutState.PENDING:
                self._spawn(self._make_ready(canary, allow_signature_change=True))
            elif canary.trial is None:
                await self._take_up(canary)
        for rollout in await self._store.list(limit=RECENT):
            if rollout.kind is RolloutKind.CANARY and rollout.state is RolloutState.ROLLED_BACK:
                await self._stop_left_behind(rollout)

    def begin_judging(self, *, loaded: bool) -> None:
        """Judge the canaries from now on. loaded: whether `load` has found the database; otherwise it is tried again."""
        self._judge = asyncio.create_task(self._run(loaded))

    async def end(self) -> None:
        tasks = [task for task in (self._judge, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def judge(self) -> None:
        """Look at the evidence of each canary once, and act on it. Diverts at once what is condemned."""
        now = self._clock()
        for canary in list(self._active.values()):
            if not canary.is_judged or canary.trial is None:
                continue
            canary.look(self._evidence(canary.rollout.name))
            change = decisions.decide(canary.rollout, self._sight(canary))
            if change is None:
                continue
            if change.rollout.state is RolloutState.ROLLED_BACK:
                self._divert(canary, change)
            elif not canary.changing.locked() and now >= canary.retry_at:
                canary.retry_at = now + RETRY_SECONDS
                self._spawn(self._advance(canary, change))

    async def _run(self, loaded: bool) -> None:
        while not loaded:
            await asyncio.sleep(RETRY_SECONDS)
            loaded = await self.load()
        await self.resume_all()
        while True:
            await self._news.wait()
            self.judge()
            if not self._active:
                self._news.clear()
            await asyncio.sleep(JUDGED_EVERY_SECONDS)

    def _enter(self, rollout: Rollout) -> ActiveCanary:
        canary = self._active[rollout.id] = ActiveCanary(rollout)
        self._state.hold(rollout)
        self._news.set()
        return canary

    def _leave(self, rollout: Rollout) -> None:
        self._active.pop(rollout.id, None)
        self._state.release(rollout.name)

    async def _make_ready(self, canary: ActiveCanary, *, allow_signature_change: bool) -> None:
        """Start and probe the candidate beside the stable version, then begin; or record why it does not start."""
        candidate = self._state.model(canary.rollout.candidate_id)
        reason = "the candidate was deleted"
        if candidate is not None:
            await self._deployments.start(candidate, TrafficChoice.NONE)
            deployment = await self._deployments.settled(candidate.model_id)
            reason = "" if is_serving(deployment) else failure(deployment)
        if not reason and not allow_signature_change:
            reason = self._breaks(canary.rollout)
        while (change := self._after_pending(canary, reason)) is not None and not await self._advance(canary, change):
            await asyncio.sleep(RETRY_SECONDS)

    def _after_pending(self, canary: ActiveCanary, reason: str) -> Change | None:
        if reason:
            return decisions.fail(canary.rollout, utc_now(), reason)
        return decisions.start(canary.rollout, self._sight(canary))

    def _breaks(self, rollout: Rollout) -> str:
        stable, candidate = self._state.model(rollout.stable_id), self._state.model(rollout.candidate_id)
        if stable is None or candidate is None:
            return "a version was deleted"
        try:
            refuse_breaking(Pair(stable, candidate))
        except BadInput as error:
            return str(error)
        return ""

    async def _advance(self, canary: ActiveCanary, change: Change) -> bool:
        """Make a change that nobody asked for. Returns False while the database is away; it is decided again then."""
        try:
            async with canary.changing:
                if change.rollout.generation == canary.rollout.generation + 1:
                    await self._change(canary, change)
        except CatalogUnavailable as error:
            log.warning("a canary does not go on, as the database is away", rollout=canary.rollout.id, error=str(error))
            return False
        return True

    async def _command(self, rollout_id: str, command: Command, by: str) -> Rollout:
        rollout = await self._canary(rollout_id)
        canary = self._active.get(rollout_id)
        if canary is None:
            command(rollout, self._blind(rollout), by)
            return rollout
        async with canary.changing:
            change = command(canary.rollout, self._sight(canary), by)
            if change is not None:
                await self._change(canary, change)
            return canary.rollout

    async def _change(self, canary: ActiveCanary, change: Change) -> None:
        """Record a change, then act on it, unless a rollback came first. Raises CatalogUnavailable; then nothing changed."""
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
            self._leave(coming)
        elif coming.arms != base.arms:
            if canary.trial is None:
                canary.begin(self._evidence(coming.name), self._clock())
            else:
                canary.next_step(self._clock())
            await self._publish(coming)

    async def _take_up(self, canary: ActiveCanary) -> None:
        """Go on with a canary of an earlier gateway. Its step begins anew; the warm time after a promotion goes on."""
        rollout = canary.rollout
        canary.begin(self._evidence(rollout.name), self._clock())
        if rollout.state is RolloutState.PROMOTED:
            canary.since -= max(0.0, _seconds_since(rollout.updated_at))
        await self._publish(rollout)

    async def _publish(self, rollout: Rollout) -> None:
        """Have the traffic follow a rollout, and record on this host which version answers without it."""
        self._state.hold(rollout)
        try:
            self._shift(rollout.name)
        except Conflict:  # an arm is not connected; it gets its share as soon as it is
            await self._publisher.follow()
        await self._mark(rollout)

    def _shift(self, name: str) -> None:
        """Move the traffic of a name at once. Raises Conflict if an arm that has a share is not connected."""
        split = self._state.splits.get(name)
        if split is not None:
            self._publisher.shift_traffic(name, split)

    async def _mark(self, rollout: Rollout) -> None:
        main = max(rollout.arms, key=lambda arm: arm.weight).model_id
        await self._publisher.mark(rollout.name, main)

    def _divert(self, canary: ActiveCanary, change: Change) -> bool:
        """Move the traffic to the stable version before anything else; the record follows.

        Returns False if the stable version is not connected; then nothing has changed.
        """
        self._state.hold(change.rollout)
        try:
            self._shift(change.rollout.name)
        except Conflict as error:
            if self.standing.serves(canary.rollout.candidate_id):
                self._state.hold(canary.rollout)
                log.error("a canary cannot be rolled back", rollout=canary.rollout.id, error=str(error))
                return False
        canary.rollout, canary.unrecorded = change.rollout, change
        log.warning("a canary was rolled back", rollout=change.rollout.id, reason=change.rollout.reason)
        self._spawn(self._settle_rollback(canary, change))
        return True

    async def _settle_rollback(self, canary: ActiveCanary, change: Change) -> None:
        """Record a rollback, now or as soon as the database is back, and stop the candidate."""
        await self._mark(change.rollout)
        recorded = await self._record_rollback(canary, change)
        canary.tried.set()
        self._state.release(change.rollout.name)
        await self._stop(change.rollout.candidate_id)
        while not recorded:
            await asyncio.sleep(RETRY_SECONDS)
            recorded = await self._record_rollback(canary, change)
        self._leave(change.rollout)

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
            again = decisions.roll_back(
                recorded, self._blind(recorded), change.rollout.reason, dict(change.event.facts)
            )
            if again is not None:
                await self._store.change(again.rollout, again.event)
                canary.rollout = again.rollout
        except (CatalogUnavailable, Conflict):
            return False
        return True

    async def _stop_left_behind(self, rollout: Rollout) -> None:
        """Stop the candidate of a rollback whose gateway was killed before it could; not one started again since."""
        if not self._state.has_deployment(rollout.candidate_id):
            return
        deployment = self._state.deployment(rollout.candidate_id)
        is_left = deployment.wanted and deployment.traffic is TrafficChoice.NONE
        if is_left and deployment.live_at < rollout.updated_at:
            await self._stop(rollout.candidate_id)

    async def _stop(self, model_id: str) -> None:
        model = self._state.model(model_id)
        if model is None or not self._state.has_deployment(model_id):
            return
        try:
            await self._deployments.halt(model)
        except PrismError as error:
            log.error("a version of a rollout could not be stopped", model=model.ref, error=str(error))

    async def _canary(self, rollout_id: str) -> Rollout:
        rollout = await self.get(rollout_id)
        if rollout.kind is not RolloutKind.CANARY:
            raise Conflict(f"The rollout {rollout.id} of {rollout.name} is no canary, but {rollout.kind.value}.")
        return rollout

    def _sight(self, canary: ActiveCanary) -> Sight:
        rollout = canary.rollout
        return canary.sight(
            self._clock(),
            utc_now(),
            self.standing.versions(rollout),
            stable_serves=self.standing.serves(rollout.stable_id),
            lost=self.standing.lost(rollout.candidate_id),
            stable_lost=self.standing.lost(rollout.stable_id),
        )

    def _blind(self, rollout: Rollout) -> Sight:
        return Sight(None, utc_now(), 0.0, self.standing.versions(rollout), self.standing.serves(rollout.stable_id))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)
        return task


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a rollout failed unexpectedly", exc_info=error)


def _seconds_since(at: str) -> float:
    now = datetime.fromisoformat(utc_now())
    return (now - datetime.fromisoformat(at)).total_seconds()
