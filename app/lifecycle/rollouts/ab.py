"""Begins and stops A/B experiments, records which key met which arm, takes feedback, and says what it shows."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from msgspec import Struct

from app.core.model import TrafficChoice
from app.core.rollout import ab
from app.core.rollout.experiment import Conclusion, Summary, conclude, summary, without_past
from app.core.rollout.feedback import Exposure, Feedback, KeyTotal
from app.core.rollout.keys import sealed
from app.core.rollout.records import Change, Rollout, RolloutKind, RolloutState
from app.core.rollout.split import arm_of
from app.core.route import Arm
from app.core.route_table import is_serving
from app.errors import BadInput, CatalogUnavailable, Conflict, NotFound, PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.rollouts.checks import Pair, refuse_breaking, refuse_second, stable_version, version_of
from app.lifecycle.rollouts.experiments import ExperimentStore
from app.lifecycle.rollouts.standing import Standing, failure
from app.lifecycle.rollouts.store import RolloutStore
from app.lifecycle.state import utc_now

log = structlog.get_logger(__name__)

RECORDED_EVERY_SECONDS = 1.0
READY_SECONDS = 2.0
"""How long a start whose variants all serve already, and the end of a stop, are waited for."""
LOAD_SECONDS = 5.0
UNRECORDED_MAX = 100_000
"""How many keys wait at most while the database is away; more are not recorded, of whichever arm."""


class ExperimentRequest(Struct, frozen=True):
    """What a person asks for. variants: weights by version. key: see `key_source`."""

    name: str
    variants: Mapping[str, float]
    key: str = ""
    allow_signature_change: bool = False
    created_by: str = ""


class Report(Struct, frozen=True):
    """A value that a caller reports. name: of the model; "" for the only experiment that runs. See Feedback."""

    metric: str
    value: float
    request_id: str = ""
    key: str = ""
    name: str = ""
    is_past: bool = False


class MetricResult(Struct, frozen=True):
    """What one metric shows. arms: by model_id, one value for each key. adjusted: by values from before (CUPED)."""

    conclusion: Conclusion
    arms: dict[str, Summary]
    adjusted: bool


class Results(Struct, frozen=True):
    """What an experiment shows. keys: distinct keys that met each arm, by model_id. metrics: by name."""

    rollout: Rollout
    keys: dict[str, int]
    conclusion: Conclusion
    metrics: dict[str, MetricResult]


class Experiments:
    """The experiments of one gateway.

    exposures: returns the keys that met an arm of a name since the last call. exposure: returns what is known of a
    request id. Both are dispatch's.
    """

    def __init__(
        self,
        store: RolloutStore,
        records: ExperimentStore,
        deployments: Deployments,
        exposures: Callable[[str], dict[str, str]],
        exposure: Callable[[str], Exposure | None],
    ) -> None:
        self._store = store
        self._records = records
        self._deployments = deployments
        self._state = deployments.state
        self._publisher = deployments.pipeline.publisher
        self.standing = Standing(self._state)
        self._exposures = exposures
        self._exposure = exposure
        self._active: dict[str, Rollout] = {}  # by rollout id
        self._unrecorded: dict[str, dict[str, str]] = {}  # by rollout id
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._news = asyncio.Event()

    async def begin(self, request: ExperimentRequest) -> Rollout:
        """Record an experiment and have its variants made ready; those that serve already get their shares at once.

        Raises NotFound for an unknown name or version, with the nearest; Conflict if no version is live or the name has
        an active rollout; BadInput for weights, a key or a signature that make no sense; CatalogUnavailable.
        """
        by_version = ab.shares(request.variants)
        models = {version: version_of(request.name, version, self._state) for version in by_version}
        refuse_second(request.name, self._state.rollout(request.name))
        stable = stable_version(request.name, next(iter(models.values())), self._state)
        arms = [Arm(models[version].model_id, share) for version, share in by_version.items()]
        if len({arm.model_id for arm in arms}) < len(arms):
            raise BadInput("A version occurs twice among the variants.", hint="Name each once.", field="variants")
        for model in models.values():
            if not request.allow_signature_change and model is not stable:
                refuse_breaking(Pair(stable, model))
        numbers = {model.model_id: model.version for model in models.values()}
        change = ab.begin(
            secrets.token_hex(6),
            request.name,
            stable.model_id,
            arms,
            request.key,
            numbers,
            utc_now(),
            request.created_by,
        )
        rollout = change.rollout
        await self._store.begin(rollout, change.event)
        self._enter(rollout)
        are_ready = all(self.standing.serves(arm.model_id) for arm in rollout.arms)
        ready = self._spawn(self._make_ready(rollout.id))
        if are_ready:
            await asyncio.wait([ready], timeout=READY_SECONDS)
        return self._active.get(rollout.id, rollout)

    async def stop(self, rollout_id: str, winner: str = "", by: str = "") -> Rollout:
        """Give the winner all requests, or the version that had them before, and stop the others.

        Raises NotFound, Conflict if it is no experiment or was stopped for another version, and CatalogUnavailable. A
        repeated call changes nothing.
        """
        async with self._changing:
            rollout = await self._experiment(rollout_id)
            chosen = self._winner(rollout, winner)
            change = ab.stop(rollout, chosen, self.standing.number(chosen), utc_now(), by)
            if change is None:
                return rollout
            await self._record(rollout)
            rollout = await self._make(change)
            await self._publish(rollout)
        await asyncio.wait([self._spawn(self._finish(rollout.id))], timeout=READY_SECONDS)
        return self._active.get(rollout_id) or await self._store.get(rollout_id) or rollout

    async def results(self, rollout_id: str, *, lower_is_better: bool = False) -> Results:
        """Return what an experiment shows until now. Raises NotFound, Conflict, CatalogUnavailable."""
        rollout = await self._experiment(rollout_id)
        await self._record(rollout)
        keys = await self._records.met(rollout_id)
        metrics = {}
        for metric in await self._records.metrics(rollout_id):
            totals = await self._records.totals(rollout_id, metric)
            metrics[metric] = _result(rollout, keys, totals, more_is_better=not lower_is_better)
        return Results(rollout, keys, conclude(rollout.arms, keys, {}), metrics)

    async def report(self, report: Report) -> Feedback:
        """Record a value of a request, or of a key. Reporting the same one again changes nothing.

        The arm of a request is the one that answered it; the arm of a key is computed. Raises NotFound for a request
        that is not remembered, or where no experiment runs; BadInput; Conflict for another value than before.
        """
        exposure = self._of_key(report) if report.key else self._of_request(report.request_id)
        feedback = Feedback(
            exposure.rollout_id,
            exposure.model_id,
            exposure.key,
            report.metric,
            report.value,
            utc_now(),
            report.request_id,
            report.is_past,
        )
        await self._records.add(feedback)
        return feedback

    async def load(self) -> bool:
        """Take up the experiments that an earlier gateway left, before any traffic. Returns False without the database."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                active = await self._store.active()
        except (CatalogUnavailable, TimeoutError) as error:
            log.warning("experiments wait for the database", error=str(error))
            return False
        for rollout in active:
            if rollout.kind is RolloutKind.EXPERIMENT and rollout.id not in self._active:
                self._enter(rollout)
        return True

    def begin_recording(self, *, loaded: bool | None) -> None:
        """Go on with the experiments that were taken up, and record the keys from now on. loaded: see Canaries."""
        self._spawn(self._run(loaded))

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for rollout in list(self._active.values()):
            await self._try_to_record(rollout)

    async def _run(self, loaded: bool | None) -> None:
        while loaded is False:
            await asyncio.sleep(RECORDED_EVERY_SECONDS)
            loaded = await self.load()
        for rollout in list(self._active.values()):
            await self._resume(rollout)
        while True:
            await self._news.wait()
            for rollout in list(self._active.values()):
                await self._try_to_record(rollout)
            if not self._active:
                self._news.clear()
            await asyncio.sleep(RECORDED_EVERY_SECONDS)

    async def _resume(self, rollout: Rollout) -> None:
        if rollout.state is RolloutState.PENDING:
            self._spawn(self._make_ready(rollout.id))
            return
        await self._publish(rollout)
        if rollout.state is RolloutState.PROMOTED:
            self._spawn(self._finish(rollout.id))

    def _enter(self, rollout: Rollout) -> None:
        self._active[rollout.id] = rollout
        self._state.hold(rollout)
        self._news.set()

    async def _make_ready(self, rollout_id: str) -> None:
        """Start and probe the variants beside the version that answers, then divide the callers; or record the failure."""
        reason = ""
        for arm in self._active[rollout_id].arms:
            if not reason and self._is_pending(rollout_id):
                reason = await self._start(arm.model_id)
        while self._is_pending(rollout_id):
            try:
                async with self._changing:
                    await self._after_pending(rollout_id, reason)
            except CatalogUnavailable:
                await asyncio.sleep(RECORDED_EVERY_SECONDS)

    async def _after_pending(self, rollout_id: str, reason: str) -> None:
        if not self._is_pending(rollout_id):
            return
        rollout = self._active[rollout_id]
        numbers = {arm.model_id: self.standing.number(arm.model_id) for arm in rollout.arms}
        change = ab.fail(rollout, reason, utc_now()) if reason else ab.start(rollout, numbers, utc_now())
        assert change is not None
        rollout = await self._make(change)
        await self._publish(rollout)
        if rollout.state is RolloutState.FAILED:
            self._leave(rollout)

    def _is_pending(self, rollout_id: str) -> bool:
        rollout = self._active.get(rollout_id)
        return rollout is not None and rollout.state is RolloutState.PENDING

    async def _start(self, model_id: str) -> str:
        """Start a variant unless it serves. Returns why it does not, "" if it does."""
        model = self._state.model(model_id)
        if model is None:
            return f"{model_id} was deleted"
        if not self.standing.serves(model_id):
            await self._deployments.start(model, traffic=TrafficChoice.NONE)
        deployment = await self._deployments.settled(model_id)
        return "" if is_serving(deployment) else f"{model.version} does not start: {failure(deployment)}"

    async def _finish(self, rollout_id: str) -> None:
        """Stop the versions that a stopped experiment does not need any more, then record that it is over."""
        rollout = self._active[rollout_id]
        await self._halt(rollout)
        while (ended := ab.finish(rollout, utc_now())) is not None:
            try:
                rollout = await self._make(ended)
            except CatalogUnavailable:
                await asyncio.sleep(RECORDED_EVERY_SECONDS)
        self._leave(rollout)

    def _leave(self, rollout: Rollout) -> None:
        self._active.pop(rollout.id, None)
        self._unrecorded.pop(rollout.id, None)
        self._state.release(rollout)

    async def _halt(self, rollout: Rollout) -> None:
        for model_id in sorted(rollout.versions - {rollout.candidate_id}):
            model = self._state.model(model_id)
            if model is None or not self._state.has_deployment(model_id):
                continue
            try:
                await self._deployments.halt(model)
            except PrismError as error:
                log.error("a version of an experiment could not be stopped", model=model.ref, error=str(error))

    async def _make(self, change: Change) -> Rollout:
        """Record a change, then take it as what is. Raises CatalogUnavailable; then all is as before."""
        await self._store.change(change.rollout, change.event)
        rollout = self._active[change.rollout.id] = change.rollout
        log.info("an experiment changed", rollout=rollout.id, model=rollout.name, state=rollout.state)
        return rollout

    async def _publish(self, rollout: Rollout) -> None:
        """Have the traffic follow an experiment, and record on this host which version answers without it."""
        self._state.hold(rollout)
        split = self._state.splits.get(rollout.name)
        try:
            if split is not None:
                self._publisher.shift_traffic(rollout.name, split)
        except Conflict:  # an arm is not connected; it gets its share as soon as it is
            await self._publisher.follow()
        await self._publisher.mark(rollout.name, rollout.candidate_id or rollout.stable_id)

    async def _experiment(self, rollout_id: str) -> Rollout:
        rollout = self._active.get(rollout_id) or await self._store.get(rollout_id)
        if rollout is None:
            raise NotFound(
                f"There is no experiment `{rollout_id[:100]}`.",
                hint="`prism ab results NAME` shows the one of a model.",
            )
        if rollout.kind is not RolloutKind.EXPERIMENT:
            raise Conflict(f"The rollout {rollout.id} of {rollout.name} is no experiment, but {rollout.kind.value}.")
        return rollout

    def _winner(self, rollout: Rollout, version: str) -> str:
        """Return the model_id of the version that is to answer from now on."""
        if not version:
            return rollout.stable_id
        model = version_of(rollout.name, version, self._state)
        if model.model_id not in rollout.versions:
            numbers = ", ".join(self.standing.number(arm.model_id) for arm in rollout.arms)
            raise BadInput(f"{model.version} is no variant of the experiment.", hint=f"Its variants are {numbers}.")
        return model.model_id

    def _of_request(self, request_id: str) -> Exposure:
        if not request_id:
            raise BadInput(
                "Feedback needs a `request_id` or a `key`.", hint="The answer's header X-Request-Id has one."
            )
        exposure = self._exposure(request_id)
        if exposure is None:
            raise NotFound(
                f"The request `{request_id[:128]}` is not known to any experiment.",
                hint="Only the latest requests with a key are remembered, until the server restarts; report by `key`.",
            )
        return exposure

    def _of_key(self, report: Report) -> Exposure:
        running = [rollout for rollout in self._active.values() if rollout.state is RolloutState.RUNNING]
        found = [rollout for rollout in running if report.name in ("", rollout.name)]
        if not found:
            which = f" of `{report.name[:100]}`" if report.name else ""
            raise NotFound(f"No experiment{which} is running.", hint="`prism ab start` begins one.")
        if len(found) > 1:
            names = ", ".join(f"`{rollout.name}`" for rollout in found)
            raise BadInput(f"Several experiments are running: of {names}.", hint="Add the `name` of the model.")
        rollout = found[0]
        return Exposure(rollout.id, arm_of(report.key, rollout.id, rollout.arms), sealed(report.key, rollout.id))

    async def _try_to_record(self, rollout: Rollout) -> None:
        try:
            await self._record(rollout)
        except (CatalogUnavailable, NotFound) as error:
            log.warning("the keys of an experiment are recorded later", rollout=rollout.id, error=str(error))

    async def _record(self, rollout: Rollout) -> None:
        """Record the keys that met an arm since the last time."""
        if rollout.id not in self._active:
            return
        waiting = self._unrecorded.pop(rollout.id, {})
        for key, model_id in self._exposures(rollout.name).items():
            if len(waiting) < UNRECORDED_MAX:
                waiting.setdefault(key, model_id)
        try:
            await self._records.meet(rollout.id, waiting, utc_now())
        except CatalogUnavailable:
            self._unrecorded[rollout.id] = {**waiting, **self._unrecorded.get(rollout.id, {})}
            raise

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)
        return task


def _result(
    rollout: Rollout, keys: Mapping[str, int], totals: tuple[KeyTotal, ...], *, more_is_better: bool
) -> MetricResult:
    given: dict[str, list[tuple[float, float | None]]] = {arm.model_id: [] for arm in rollout.arms}
    for each in totals:
        if each.count and each.model_id in given:
            given[each.model_id].append((each.total / each.count, each.past))
    values = without_past(given)
    conclusion = conclude(rollout.arms, keys, values, more_is_better=more_is_better)
    adjusted = any(past is not None for arm in given.values() for _, past in arm)
    return MetricResult(conclusion, {model_id: summary(of_keys) for model_id, of_keys in values.items()}, adjusted)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("an experiment failed unexpectedly", exc_info=error)
