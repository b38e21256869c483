"""Begins, judges, promotes and rolls back canaries.

What a running canary does not need, it does without: while the database is away it is judged, and rolled back if it
must be, and the record follows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime
from time import monotonic

import structlog
from msgspec import structs

from app.core.model import TrafficChoice
from app.core.rollout import canary as decisions
from app.core.rollout.canary import Sight
from app.core.rollout.records import Change, Evidence, Rollout, RolloutEvent, RolloutKind, RolloutState
from app.core.route_table import is_serving
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound
from app.lifecycle.deployments import Deployments
from app.lifecycle.rollouts.active import ActiveCanary
from app.lifecycle.rollouts.checks import CanaryRequest, Pair, pair_of, refuse_breaking
from app.lifecycle.rollouts.standing import Standing, failure
from app.lifecycle.rollouts.store import RolloutStore
from app.lifecycle.rollouts.transitions import RETRY_SECONDS, Transitions
from app.lifecycle.state import utc_now

log = structlog.get_logger(__name__)

JUDGED_EVERY_SECONDS = 0.1
READY_SECONDS = 2.0
"""How long the start of a canary whose candidate serves already is waited for, so that its answer says so."""

LOAD_SECONDS = 5.0
"""How long a gateway that starts waits for the database; its models serve without it."""

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
        self._transitions = Transitions(store, deployments, self.standing, clock, self._leave)
        self._evidence = evidence
        self._clock = clock
        self._active: dict[str, ActiveCanary] = {}  # by rollout id
        self._judge: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def begin(self, request: CanaryRequest) -> Rollout:
        """Record a canary and have its candidate made ready; one that serves already gets its share at once.

        Raises what `pair_of` raises, and CatalogUnavailable.
        """
        pair = pair_of(request, self._state)
        policy = request.policy
        if pair.has_side_effects:
            policy = structs.replace(policy, rescue=False)
        change = decisions.begin(
            secrets.token_hex(6),
            request.name,
            pair.stable.model_id,
            pair.candidate.model_id,
            policy,
            pair.versions,
            utc_now(),
            request.created_by,
        )
        await self._store.begin(change.rollout, change.event)
        canary = self._enter(change.rollout)
        is_ready = self.standing.serves(pair.candidate.model_id)
        ready = self._transitions.spawn(self._make_ready(canary, allow_signature_change=request.allow_signature_change))
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

    async def events(self, rollout_id: str, after: int = 0) -> tuple[RolloutEvent, ...]:
        """Return what was recorded of a rollout after an event's number. Raises CatalogUnavailable."""
        return await self._store.events(rollout_id, after)

    def state_of(self, rollout_id: str) -> RolloutState | None:
        """Return the state of a rollout that acts in this gateway; None for one that is finished and recorded."""
        canary = self._active.get(rollout_id)
        return canary.rollout.state if canary is not None else None

    def seen(self, rollout: Rollout) -> Sight:
        """Return what was seen of a candidate until now; without a trial for one that is not judged any more."""
        canary = self._active.get(rollout.id)
        return self._sight(canary) if canary is not None and rollout.is_active else self._blind(rollout)

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
            if not self._transitions.divert(canary, change):
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
            async with asyncio.timeout(LOAD_SECONDS):
                active = await self._store.active()
        except (CatalogUnavailable, TimeoutError) as error:
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
                self._transitions.spawn(self._make_ready(canary, allow_signature_change=True))
            elif canary.trial is None:
                await self._take_up(canary)
        self._transitions.spawn(self._transitions.stop_left_behind(RECENT))

    def begin_judging(self, *, loaded: bool | None) -> None:
        """Judge the canaries from now on.

        loaded: whether `load` has found the database; if not, it is tried again. None where nothing was ever recorded.
        """
        self._judge = asyncio.create_task(self._run(loaded))

    async def end(self) -> None:
        if self._judge is not None:
            self._judge.cancel()
            await asyncio.wait([self._judge])
        await self._transitions.end()

    def judge(self) -> None:
        """Look at the evidence of each canary once, and act on it. Diverts at once what is condemned."""
        now = self._clock()
        for canary in list(self._active.values()):
            if canary.is_judged:
                try:
                    self._judge_one(canary, now)
                except Exception:  # a fault in one must not end the watch over all others
                    log.exception("a canary could not be judged", rollout=canary.rollout.id)

    def _judge_one(self, canary: ActiveCanary, now: float) -> None:
        canary.look(self._evidence(canary.rollout.name))
        change = decisions.decide(canary.rollout, self._sight(canary))
        if change is None:
            return
        if change.rollout.state is RolloutState.ROLLED_BACK:
            self._transitions.divert(canary, change)
        elif not canary.changing.locked() and now >= canary.retry_at:
            canary.retry_at = now + RETRY_SECONDS
            self._transitions.spawn(self._transitions.advance(canary, change))

    async def _run(self, loaded: bool | None) -> None:
        while loaded is False:
            await asyncio.sleep(RETRY_SECONDS)
            loaded = await self.load()
        if loaded:
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
        self._state.release(rollout)

    async def _make_ready(self, canary: ActiveCanary, *, allow_signature_change: bool) -> None:
        """Start and probe the candidate beside the stable version, then begin; or record why it does not start."""
        candidate = self._state.model(canary.rollout.candidate_id)
        reason = "the candidate was deleted"
        if candidate is not None:
            await self._deployments.start(candidate, traffic=TrafficChoice.NONE)
            deployment = await self._deployments.settled(candidate.model_id)
            reason = "" if is_serving(deployment) else failure(deployment)
        if not reason and not allow_signature_change:
            reason = self._breaks(canary.rollout)
        while (change := self._after_pending(canary, reason)) is not None and not await self._transitions.advance(
            canary, change
        ):
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

    async def _command(self, rollout_id: str, command: Command, by: str) -> Rollout:
        rollout = await self._canary(rollout_id)
        canary = self._active.get(rollout_id)
        if canary is None:
            command(rollout, self._blind(rollout), by)
            return rollout
        async with canary.changing:
            change = command(canary.rollout, self._sight(canary), by)
            if change is not None:
                await self._transitions.make(canary, change)
            return canary.rollout

    async def _take_up(self, canary: ActiveCanary) -> None:
        """Go on with a canary of an earlier gateway. Its step begins anew; the warm time after a promotion goes on."""
        await self._transitions.publish(canary.rollout)
        canary.enter_step(self._clock())
        if canary.rollout.state is RolloutState.PROMOTED:
            canary.since -= max(0.0, _seconds_since(canary.rollout.updated_at))

    async def _canary(self, rollout_id: str) -> Rollout:
        rollout = await self.get(rollout_id)
        if rollout.kind is not RolloutKind.CANARY:
            raise Conflict(f"The rollout {rollout.id} of {rollout.name} is no canary, but {rollout.kind.value}.")
        return rollout

    def _sight(self, canary: ActiveCanary) -> Sight:
        rollout, standing = canary.rollout, self.standing
        return Sight(
            canary.trial,
            utc_now(),
            self._clock() - canary.since,
            standing.versions(rollout),
            stable_serves=standing.serves(rollout.stable_id),
            lost=standing.lost(rollout.candidate_id),
            stable_lost=standing.lost(rollout.stable_id),
        )

    def _blind(self, rollout: Rollout) -> Sight:
        return Sight(None, utc_now(), 0.0, self.standing.versions(rollout), self.standing.serves(rollout.stable_id))


def _seconds_since(at: str) -> float:
    now = datetime.fromisoformat(utc_now())
    return (now - datetime.fromisoformat(at)).total_seconds()
