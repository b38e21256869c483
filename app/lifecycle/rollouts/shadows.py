"""Begins and ends shadows, and says what they answered.

A shadow gets copies of the requests for a name after production has answered them, see dispatch/rollout/copies.py.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from msgspec import Struct, convert, structs, to_builtins

from app.core.model import TrafficChoice
from app.core.rollout import shadow as decisions
from app.core.rollout.agreement import Agreement
from app.core.rollout.records import Change, Evidence, Rollout, RolloutKind, RolloutState
from app.core.route_table import is_serving
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound
from app.lifecycle.deployments import Deployments
from app.lifecycle.rollouts.checks import Pair, refuse_breaking
from app.lifecycle.rollouts.pairs import Comparer, TakePairs, compare_forever
from app.lifecycle.rollouts.shadow_checks import ShadowRequest, refuse_side_effects, shadow_pair_of
from app.lifecycle.rollouts.standing import Standing, failure
from app.lifecycle.rollouts.store import RolloutStore
from app.lifecycle.state import utc_now

log = structlog.get_logger(__name__)

READY_SECONDS = 2.0
"""How long the start of a shadow whose version serves already is waited for, so that its answer says so."""

LOAD_SECONDS = 5.0
RETRY_SECONDS = 1.0
WATCHED_EVERY_SECONDS = 1.0
RECENT = 100
RECORDED_DISAGREEMENTS = 10


class Copied(Struct, frozen=True):
    """Copies of requests. sent: to the shadow. answered: or given up. dropped: not copied, or not compared, as the bounds
    were reached."""

    sent: int = 0
    answered: int = 0
    dropped: int = 0


class ShadowReport(Struct, frozen=True):
    """What a shadow answered. since: when counting began, RFC 3339: with the shadow, or with the gateway's last start.

    lost: why its version does not serve and will not by itself; "" if it does or may.
    """

    since: str
    copies: Copied = Copied()
    agreement: Agreement = Agreement()
    waiting: int = 0
    lost: str = ""


class _Active:
    """A shadow that is not over. changing: held while a change of it is recorded."""

    def __init__(self, rollout: Rollout, take: TakePairs) -> None:
        self.rollout = rollout
        self.comparer = Comparer(rollout.name, take)
        self.changing = asyncio.Lock()


class Shadows:
    """The shadows of one gateway.

    evidence: returns what dispatch counted of the shadow of a name. take_pairs: takes the pairs of answers to be compared.
    """

    def __init__(
        self,
        store: RolloutStore,
        deployments: Deployments,
        evidence: Callable[[str], Evidence],
        take_pairs: TakePairs,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._state = deployments.state
        self._publisher = deployments.pipeline.publisher
        self.standing = Standing(self._state)
        self._evidence = evidence
        self._take_pairs = take_pairs
        self._active: dict[str, _Active] = {}  # by rollout id
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def begin(self, request: ShadowRequest) -> Rollout:
        """Record a shadow and have its version made ready; one that serves already gets copies at once.

        Raises what `shadow_pair_of` raises, and CatalogUnavailable.
        """
        pair = shadow_pair_of(request, self._state)
        change = decisions.begin(
            secrets.token_hex(6),
            request.name,
            pair.stable.model_id,
            pair.candidate.model_id,
            pair.versions,
            utc_now(),
            request.created_by,
        )
        await self._store.begin(change.rollout, change.event)
        shadow = self._enter(change.rollout)
        is_ready = self.standing.serves(pair.candidate.model_id)
        ready = self._spawn(self._make_ready(shadow, allow_signature_change=request.allow_signature_change))
        if is_ready:
            await asyncio.wait([ready], timeout=READY_SECONDS)
        return shadow.rollout

    async def stop(self, rollout_id: str, by: str = "") -> Rollout:
        """Send no more copies, and record what was found. The version keeps running, without requests.

        A repeated call changes nothing. Raises NotFound, Conflict for a rollout of another kind, and CatalogUnavailable.
        """
        shadow = self._active.get(rollout_id)
        if shadow is None:
            return await self._recorded(rollout_id)
        async with shadow.changing:
            await self._end(shadow, f"stopped{by and f' by {by}'}")
        return shadow.rollout

    async def find(self, name: str) -> Rollout:
        """Return the shadow of a model that acts, otherwise its last one. Raises NotFound, and CatalogUnavailable."""
        shadow = next((shadow for shadow in self._active.values() if shadow.rollout.name == name), None)
        if shadow is not None:
            return shadow.rollout
        self._state.find(name)
        recorded = await self._store.list(name, RECENT)
        rollout = next((rollout for rollout in recorded if rollout.kind is RolloutKind.SHADOW), None)
        if rollout is None:
            raise NotFound(
                f"`{name}` has no shadow.",
                hint=f"`prism shadow start {name} --shadow VERSION` begins one; `prism versions {name}` lists the versions.",
            )
        return rollout

    async def report(self, rollout: Rollout) -> ShadowReport:
        """Return what a shadow answered until now, or until it was stopped. Raises CatalogUnavailable."""
        shadow = self._active.get(rollout.id)
        if shadow is not None:
            return self._seen(shadow)
        for event in await self._store.events(rollout.id):
            if event.what == RolloutState.DONE and event.facts:
                return convert(event.facts, ShadowReport)
        return ShadowReport(rollout.created_at)

    async def load(self) -> bool:
        """Take up the shadows that an earlier gateway left, before any traffic. Returns False if the database is away."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                active = await self._store.active()
        except (CatalogUnavailable, TimeoutError) as error:
            log.warning("shadows wait for the database", error=str(error))
            return False
        for rollout in active:
            if rollout.kind is RolloutKind.SHADOW and rollout.id not in self._active:
                self._enter(rollout)
        return True

    def begin_comparing(self, *, loaded: bool | None) -> None:
        """Compare answers from now on.

        loaded: whether `load` has found the database; if not, it is tried again. None where nothing was ever recorded.
        """
        self._spawn(self._take_up(loaded))
        self._spawn(compare_forever(lambda: [shadow.comparer for shadow in self._active.values()], self._news))

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_up(self, loaded: bool | None) -> None:
        """Go on with the shadows that were taken up, and end those whose version will not come back."""
        is_late = loaded is False
        while loaded is False:
            await asyncio.sleep(RETRY_SECONDS)
            loaded = await self.load()
        if is_late:
            await self._publisher.follow()
        for shadow in list(self._active.values()):
            if shadow.rollout.state is RolloutState.PENDING:
                self._spawn(self._make_ready(shadow, allow_signature_change=True))
        while True:
            await self._news.wait()
            await asyncio.sleep(WATCHED_EVERY_SECONDS)
            for shadow in list(self._active.values()):
                lost = self.standing.lost(shadow.rollout.candidate_id)
                if lost and shadow.rollout.state is RolloutState.RUNNING and not shadow.changing.locked():
                    await self._end_lost(shadow, lost)

    async def _end_lost(self, shadow: _Active, lost: str) -> None:
        try:
            async with shadow.changing:
                await self._end(shadow, lost)
        except CatalogUnavailable as error:
            log.warning("the end of a shadow is recorded later", rollout=shadow.rollout.id, error=str(error))

    def _enter(self, rollout: Rollout) -> _Active:
        shadow = self._active[rollout.id] = _Active(rollout, self._take_pairs)
        self._state.hold(rollout)
        self._news.set()
        return shadow

    async def _make_ready(self, shadow: _Active, *, allow_signature_change: bool) -> None:
        """Start and probe the version beside production, then send it copies; or record why it does not start."""
        rollout = shadow.rollout
        candidate = self._state.model(rollout.candidate_id)
        reason = "the version was deleted"
        if candidate is not None:
            await self._deployments.start(candidate, traffic=TrafficChoice.NONE)
            deployment = await self._deployments.settled(candidate.model_id)
            reason = "" if is_serving(deployment) else failure(deployment)
        reason = reason or self._refusal(rollout, allow_signature_change=allow_signature_change)
        while True:
            async with shadow.changing:
                current, now = shadow.rollout, utc_now()
                change = decisions.fail(current, now, reason) if reason else self._started(current, now)
                if change is None:
                    return
                try:
                    return await self._make(shadow, change)
                except CatalogUnavailable as error:
                    log.warning("a shadow waits for the database", rollout=current.id, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    def _started(self, rollout: Rollout, now: str) -> Change | None:
        return decisions.start(rollout, self.standing.versions(rollout), now)

    def _refusal(self, rollout: Rollout, *, allow_signature_change: bool) -> str:
        """Return why a version that is ready cannot be the shadow: its start may have told more about it."""
        production, candidate = self._state.model(rollout.stable_id), self._state.model(rollout.candidate_id)
        if production is None or candidate is None:
            return "a version was deleted"
        pair = Pair(production, candidate)
        try:
            refuse_side_effects(pair)
            if not allow_signature_change:
                refuse_breaking(pair)
        except BadInput as error:
            return str(error)
        return ""

    async def _end(self, shadow: _Active, reason: str) -> None:
        """End a shadow. The caller holds `changing`. Raises CatalogUnavailable; then it goes on."""
        change = decisions.end(shadow.rollout, utc_now(), reason, to_builtins(self._recordable(shadow)))
        if change is not None:
            await self._make(shadow, change)

    async def _make(self, shadow: _Active, change: Change) -> None:
        """Record a change, then have the copies follow it. Raises CatalogUnavailable; then the shadow is as before."""
        coming = change.rollout
        try:
            await self._store.change(coming, change.event)
        except Conflict:
            coming = await self._store.get(coming.id) or coming  # another gateway, or a write that was thought lost
        shadow.rollout = coming
        self._state.hold(coming)
        await self._publisher.follow()
        log.info("a shadow changed", rollout=coming.id, model=coming.name, state=coming.state, text=change.event.text)
        if not coming.is_active:
            self._active.pop(coming.id, None)
            self._state.release(coming)

    def _seen(self, shadow: _Active) -> ShadowReport:
        rollout, comparer = shadow.rollout, shadow.comparer
        counted = self._evidence(rollout.name) if rollout.state is RolloutState.RUNNING else Evidence()
        return ShadowReport(
            comparer.since,
            Copied(counted.sent, counted.mirrored, counted.dropped),
            comparer.tally.report(),
            comparer.waiting,
            self.standing.lost(rollout.candidate_id),
        )

    def _recordable(self, shadow: _Active) -> ShadowReport:
        report = self._seen(shadow)
        shown = report.agreement.disagreements[:RECORDED_DISAGREEMENTS]
        return structs.replace(report, agreement=structs.replace(report.agreement, disagreements=shown))

    async def _recorded(self, rollout_id: str) -> Rollout:
        rollout = await self._store.get(rollout_id)
        if rollout is None:
            raise NotFound(
                f"There is no rollout `{rollout_id[:100]}`.", hint="`prism shadow show NAME` shows a model's."
            )
        if rollout.kind is not RolloutKind.SHADOW:
            raise Conflict(
                f"The rollout {rollout.id} of {rollout.name} is no shadow, but {rollout.kind.value}.",
                hint=f"`prism canary rollback {rollout.name}` ends a canary.",
                rollout=rollout.id,
            )
        return rollout

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report_failure)
        return task


def _report_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a shadow failed unexpectedly", exc_info=error)
