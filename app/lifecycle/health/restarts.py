"""Restarts lost replicas: those that did well at once, those that fail again and again after growing pauses."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import structlog
from msgspec import Struct

from app.core.model import ModelVersion, Replica, Status
from app.core.route_table import is_serving
from app.errors import Conflict, NotFound, PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.start import STARTS_AT_A_TIME

log = structlog.get_logger(__name__)

BACKOFF_FIRST_SECONDS = 10.0
BACKOFF_MAX_SECONDS = 300.0
HEALTHY_RESET_SECONDS = 600.0

URGENT_FIRST_SECONDS = 1.0
URGENT_MAX_SECONDS = 60.0
"""Pauses where no other replica serves: the model is retried soon, but one that ends at every start does not keep a
core to itself.
"""

AWAITED_SECONDS = 2.0
"""Requests wait for a replica that is due within this time; in an urgent case that covers the first three starts in a
row. After that the next start is not expected to succeed.
"""

STEADY_SECONDS = 60.0


def backoff_seconds(restarts_in_a_row: int, *, urgent: bool = False) -> float:
    """Return the pause before the next restart: none before the first, then 10, 20, 40 … 300 s, as in Kubernetes.

    urgent: the pauses are 1, 2, 4 … 60 s.
    """
    if not restarts_in_a_row:
        return 0.0
    first, most = (URGENT_FIRST_SECONDS, URGENT_MAX_SECONDS) if urgent else (BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS)
    return float(min(most, first * 2.0 ** (restarts_in_a_row - 1)))


class RestartState(Struct, eq=False):
    """The restart history of one replica, passed on to its replacement. Times are monotonic seconds.

    failures: failed checks in a row. restarts_in_a_row: restarts without one that did well.
    restart_due: while the replica is down, when the next one may be started. awaited: while it is down, whether
    requests may wait for that one.
    """

    failures: int = 0
    restarts_in_a_row: int = 0
    restarted_at: float = 0.0
    restart_due: float = 0.0
    awaited: bool = False

    def healthy(self, now: float) -> None:
        self.failures = 0
        if self.restarts_in_a_row and now - self.restarted_at >= HEALTHY_RESET_SECONDS:
            self.restarts_in_a_row = 0

    def lost(self, now: float, *, by_itself: bool, had_answered: bool, is_last: bool) -> None:
        """Plan the restart of a lost replica: at once, unless it fails again and again by itself.

        A replica that had answered well does not count as failing if it was killed from outside, had been steady for a
        minute, or was the last one: its model is worth a start for each time that it answered.
        """
        urgent = is_last or not by_itself
        if had_answered and (urgent or now - self.restarted_at >= STEADY_SECONDS):
            self.restarts_in_a_row = 0
        self._plan(now, urgent=urgent)

    def start_failed(self, now: float, *, is_last: bool) -> None:
        """Plan the next try. is_last: whether no other replica serves."""
        self._plan(now, urgent=is_last)

    def _plan(self, now: float, *, urgent: bool) -> None:
        self.failures = 0
        pause = backoff_seconds(self.restarts_in_a_row, urgent=urgent)
        self.restart_due = now + pause
        self.awaited = pause <= AWAITED_SECONDS

    def restarted(self, now: float) -> None:
        self.restarts_in_a_row += 1
        self.restarted_at = now


Starts = dict["asyncio.Task[Replica]", RestartState]


class ReplicaRestarter:
    """The restart states of replicas: of those that run, by id, of those being stopped, and of those that are down.

    clock: returns monotonic seconds.
    """

    def __init__(self, deployments: Deployments, clock: Callable[[], float]) -> None:
        self._deployments = deployments
        self._replicas = deployments.pipeline.replicas
        self._publisher = deployments.pipeline.publisher
        self._state = deployments.state
        self._clock = clock
        self._watches: dict[str, RestartState] = {}
        self._going: defaultdict[str, list[RestartState]] = defaultdict(list)
        self._down: dict[str, list[RestartState]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """The models with replicas that are being restarted now or wait for their pause to end."""
        return tuple(sorted(self._tasks))

    async def end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def watch(self, replica: Replica) -> RestartState:
        return self._watches.setdefault(replica.id, RestartState())

    async def lose(self, model: ModelVersion, replica: Replica, reason: str, *, by_itself: bool) -> None:
        """Take a replica that is gone or answers no more out of the traffic, and have another one started in its place.

        by_itself: whether nobody killed or froze it.
        """
        watch = self.watch(replica)
        is_last = self._state.deployment(model.model_id).replicas == (replica,)
        had_answered = self._publisher.has_answered(replica)
        watch.lost(self._clock(), by_itself=by_itself, had_answered=had_answered, is_last=is_last)
        self._going[model.model_id].append(watch)
        try:
            was_there = await self._deployments.lose(model, replica, reason, by_itself=by_itself, coming=watch.awaited)
        finally:
            self._going[model.model_id].remove(watch)
        if was_there:
            self._watches.pop(replica.id, None)
            self._bring_back(model, [watch])

    def look_for_missing(self) -> None:
        """Retry replicas that did not start and that nothing else is starting, after the first pause."""
        for deployment in self._state.deployments():
            model = self._state.model(deployment.model_id)
            down = len(self._down.get(deployment.model_id, ())) + len(self._going[deployment.model_id])
            if model is None or not self._is_meant(deployment.model_id) or self._deployments.busy(deployment.model_id):
                continue
            missing = self._state.replicas_wanted(model) - len(deployment.replicas) - down
            watches = [RestartState(restarts_in_a_row=1) for _ in range(missing)]
            for watch in watches:
                watch.start_failed(self._clock(), is_last=not is_serving(deployment))
            if watches:
                self._bring_back(model, watches)

    def forget_gone(self) -> None:
        known = {replica.id for deployment in self._state.deployments() for replica in deployment.replicas}
        self._watches = {id: watch for id, watch in self._watches.items() if id in known}

    def _bring_back(self, model: ModelVersion, watches: list[RestartState]) -> None:
        model_id = model.model_id
        self._down.setdefault(model_id, []).extend(watches)
        self._news.setdefault(model_id, asyncio.Event()).set()
        if model_id not in self._tasks:
            self._tasks[model_id] = asyncio.create_task(self._run(model), name=f"restart replicas of {model.ref}")

    async def _run(self, model: ModelVersion) -> None:
        """Retry until no replica is missing or the model is not wanted any more."""
        down = self._down[model.model_id]
        try:
            while down:
                await self._try_to_bring_back(model, down)
                with contextlib.suppress(NotFound):
                    await self._expect(model)
        finally:  # with no await since `down` was last looked at
            del self._tasks[model.model_id], self._down[model.model_id], self._news[model.model_id]

    async def _try_to_bring_back(self, model: ModelVersion, down: list[RestartState]) -> None:
        await self._until_one_is_due(model.model_id, down)
        try:
            if self._is_short(model):
                await self._deployments.refill(model, lambda: self._start_due(model, down))
            if not self._is_short(model):
                down.clear()
        except PrismError:  # it was deleted
            down.clear()
        except Exception:  # it is tried again, as after any failure
            log.exception("replicas could not be restarted", model=model.ref)
            for watch in down:
                watch.start_failed(self._clock(), is_last=False)

    async def _until_one_is_due(self, model_id: str, down: list[RestartState]) -> None:
        while (wait := min(watch.restart_due for watch in down) - self._clock()) > 0:
            self._news[model_id].clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news[model_id].wait()

    def _is_meant(self, model_id: str) -> bool:
        """Return whether replicas of the model should run; it had some before."""
        deployment = self._state.deployment(model_id)
        return deployment.wanted and (is_serving(deployment) or deployment.status is Status.UNHEALTHY)

    def _is_short(self, model: ModelVersion, starting: int = 0) -> bool:
        """Return whether replicas are missing; False once the model was stopped, deleted, or filled up meanwhile."""
        present = len(self._state.deployment(model.model_id).replicas)
        return self._is_meant(model.model_id) and present + starting < self._state.replicas_wanted(model)

    async def _expect(self, model: ModelVersion) -> None:
        """Tell dispatch whether a replica is starting."""
        coming = any(watch.awaited for watch in (*self._going[model.model_id], *self._down[model.model_id]))
        await self._publisher.expect(model.model_id, coming=coming)

    async def _start_due(self, model: ModelVersion, down: list[RestartState]) -> None:
        """Start the replicas that are due, a few at a time, and those that become due meanwhile.

        Raises the first failure if no replica serves in the end; otherwise the record says what is missing and why.
        """
        starts: Starts = {}
        failures: list[PrismError] = []
        try:
            while self._begin_due(model, down, starts):
                await self._until_news(model.model_id, down, starts)
                for task in [task for task in starts if task.done()]:
                    failures += self._take_up(model, task, starts.pop(task), down)
                    await self._expect(model)
        finally:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        await self._replicas.note_missing(model, failures)

    def _begin_due(self, model: ModelVersion, down: list[RestartState], starts: Starts) -> bool:
        """Begin the starts that are due; return False once there is nothing left to wait for.

        It begins none while another job waits for the end of this one.
        """
        for watch in down if not self._deployments.is_followed(model.model_id) else ():
            is_due = watch.restart_due <= self._clock() and watch not in starts.values()
            if is_due and len(starts) < STARTS_AT_A_TIME and self._is_short(model, len(starts)):
                watch.restarted(self._clock())
                number = self._replicas.free_number(model, {int(task.get_name()) for task in starts})
                admit = partial(self._hand_on, watch)
                starts[asyncio.create_task(self._replicas.add(model, number, admit), name=str(number))] = watch
        return bool(starts)

    async def _until_news(self, model_id: str, down: list[RestartState], starts: Starts) -> None:
        """Wait until a start has ended, another replica was lost, or a pause is over."""
        self._news[model_id].clear()
        news = asyncio.ensure_future(self._news[model_id].wait())
        pauses = [watch.restart_due - self._clock() for watch in down if watch not in starts.values()]
        timeout = min((pause for pause in pauses if pause > 0), default=None)
        try:
            await asyncio.wait({*starts, news}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    def _hand_on(self, watch: RestartState, replica: Replica) -> None:
        """Pass the restart state on to the new replica, in case it is lost before its first check."""
        self._watches[replica.id] = watch

    def _take_up(
        self, model: ModelVersion, task: asyncio.Task[Replica], watch: RestartState, down: list[RestartState]
    ) -> tuple[PrismError, ...]:
        """Handle the end of a start. Returns its failure, if it failed."""
        error = task.exception()
        if error is None or isinstance(error, Conflict):  # it is not wanted any more
            down.remove(watch)
            return ()
        watch.start_failed(self._clock(), is_last=not is_serving(self._state.deployment(model.model_id)))
        if isinstance(error, PrismError):
            return (error,)
        log.error("a replica could not be started", model=model.ref, exc_info=error)
        return (PrismError(f"{type(error).__name__}: {error}"),)
