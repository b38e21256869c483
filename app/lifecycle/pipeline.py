"""ARTIFACT → SERVICE, in the order in which it happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import msgspec
import structlog

from app.core.environment import Lock, Requirements
from app.core.model import Deployment, Form, FormName, Model, Replica, Status, TargetName
from app.core.route_table import RouteTable, serves
from app.core.signature import Signature
from app.errors import Conflict, NotFound, PrismError, ProbeFailed, StartFailed, TargetUnavailable, Unavailable
from app.lifecycle.buildlog import BuildLog, telling_lines
from app.lifecycle.environment import requirements_for
from app.lifecycle.ledger import Ledger
from app.lifecycle.probe import Connect, ReplicaLink, probe
from app.runtime.target import Log, Target
from app.settings import Settings

log = structlog.get_logger(__name__)

START_POLL_SECONDS = 0.02
RUNTIME_REQUIREMENTS = Path(__file__).resolve().parent.parent.parent / "model_container" / "requirements.txt"


class Traffic(Protocol):
    """Who sends requests to replicas: takes the current route table, says when a replica has nothing left to do."""

    async def publish(self, table: RouteTable) -> None: ...

    async def drained(self, replica: Replica, timeout_seconds: float) -> bool: ...


class Resolve(Protocol):
    async def __call__(
        self, requirements: Requirements, *, log: Log, timeout_seconds: float, platform: str | None = None
    ) -> Lock: ...


class Road:
    """The steps from a stored artifact to a replica that takes traffic; `bring_up` is the whole of it."""

    def __init__(
        self,
        *,
        settings: Settings,
        ledger: Ledger,
        targets: Mapping[TargetName, Target],
        resolve: Resolve,
        connect: Connect,
        traffic: Traffic,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._targets = targets
        self._resolve_lock = resolve
        self._connect = connect
        self._traffic = traffic
        self._publishing = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._targets.values())

    def target(self, model: Model) -> Target:
        """Where this model runs. Raises TargetUnavailable if its target is not there on this machine."""
        name = model.target or next(iter(self._targets), None)
        if name is None or name not in self._targets:
            raise TargetUnavailable(
                f"The target `{name}` of `{model.name}` is not available on this machine.",
                hint="`prism doctor` says what is missing; or upload with another target.",
            )
        return self._targets[name]

    async def bring_up(self, model: Model, *, run: bool) -> None:
        """resolve → build → start → probe → publish, each step recorded. Raises what the failing step raised."""
        build_log = BuildLog(self._ledger.folder(model.model_id))
        target = self.target(model)
        if model.lock is None:
            async with self._ledger.step(model.model_id, Status.RESOLVING):
                model = await self._resolve(model, target, build_log)
        async with self._ledger.step(model.model_id, Status.BUILDING):
            await self.build(model, build_log)
        if not run:
            await self._ledger.update(model.model_id, status=Status.BUILT, error=None)
            return
        await self.replace_replica(model)

    async def exchange(self, model: Model) -> Replica:
        """A live model gets a replica of another form, without a word in its status: it serves all the while.

        Returns the replica that served before, to be stopped.
        Raises Conflict if it was stopped or replaced meanwhile, else what the failing step raised; nothing has changed then.
        """
        async with self.opened(model) as (replica, link, welcome):
            before = self._ledger.deployment(model.model_id).replica
            await self._probe(model, link, welcome)
            async with self._publishing:
                now = self._ledger.deployment(model.model_id)
                if before is None or now.replica != before or not serves(now):
                    raise Conflict(f"`{model.name}` was stopped or replaced meanwhile.")
                await self._ledger.update(model.model_id, replica=replica)
                await self._traffic.publish(self._ledger.route_table())
        return before

    @contextlib.asynccontextmanager
    async def opened(
        self, model: Model, form: Form | None = None
    ) -> AsyncIterator[tuple[Replica, ReplicaLink, dict[str, Any]]]:
        """A replica that takes no traffic, its link and welcome. It ends with the block unless published there."""
        folder = self._ledger.folder(model.model_id)
        replica = await self.target(model).start(model, folder, self._settings.limits, form)
        try:
            link, welcome = await self._welcome(model, replica)
            try:
                yield replica, link, welcome
            finally:
                link.close()
        finally:
            if self._ledger.deployment(model.model_id).replica != replica:
                await self.kill_replica(model, replica)

    async def replace_replica(self, model: Model) -> None:
        """start → probe → publish → drain and stop what was there before. The old one serves until the new one can."""
        before = self._ledger.deployment(model.model_id).replica
        replica: Replica | None = None
        try:
            async with self._ledger.step(model.model_id, Status.STARTING):
                replica = await self.target(model).start(
                    model, self._ledger.folder(model.model_id), self._settings.limits
                )
                link, welcome = await self._welcome(model, replica)
            async with self._ledger.step(model.model_id, Status.PROBING):
                await self._probe(model, link, welcome)
            rivals = await self._publish(model, replica)
        except BaseException:
            if replica is not None:
                await self.stop_replica(model, replica)
            raise
        if before is not None:
            await self.stop_replica(model, before)
        for rival in rivals:
            await self._retire(rival)

    async def requirements(self, model: Model) -> Requirements:
        """What its environment must have. Raises BadInput or EnvironmentFailed if that can never be."""
        assert model.inspection is not None
        return requirements_for(
            model.inspection,
            user_requirements=model.requirements,
            python_version=model.python_version,
            available_pythons=await self.target(model).pythons(),
            extra_packages=runtime_requirements(),
        )

    async def _resolve(self, model: Model, target: Target, build_log: BuildLog) -> Model:
        requirements = await self.requirements(model)
        for pin in requirements.pins:
            build_log.write(f"needs {pin.requirement}: {pin.evidence}")
        build_log.write(f"Python {', '.join(requirements.pythons)}: {requirements.python_evidence}")
        lock = await self.lock_for(requirements, model, build_log)
        return await self._ledger.amend(model.model_id, lock=lock, target=target.name)

    async def lock_for(self, requirements: Requirements, model: Model, build_log: BuildLog) -> Lock:
        """Of packages for the place where this model runs. Raises EnvironmentFailed."""
        return await self._resolve_lock(
            requirements,
            log=build_log.write,
            timeout_seconds=self._settings.build_timeout_seconds,
            platform="linux" if self.target(model).name is TargetName.DOCKER else None,
        )

    async def build(self, model: Model, build_log: BuildLog, form: Form | None = None) -> None:
        """Environment and image of a form, else of the one that serves. Raises BuildFailed."""
        form = form or model.form
        assert form is not None  # it was inspected and locked before
        build_log.write(f"environment {form.lock.hash}: Python {form.lock.python}, {len(form.lock.packages)} packages")
        target = self.target(model)
        await target.build_environment(form.lock, build_log.write)
        await target.build_model(model, self._ledger.folder(model.model_id), build_log.write, form)

    async def _probe(self, model: Model, link: ReplicaLink, welcome: dict[str, Any]) -> None:
        """Have it answer a sample; that sample, and what the runtime says of itself and its model, are kept."""
        patience = model.bounds.predict_timeout_seconds or self._settings.predict_timeout_seconds
        try:
            async with asyncio.timeout(patience):
                sample = await probe(model, link, welcome.get("samples", []))
        except TimeoutError as error:
            raise ProbeFailed(
                f"`{model.name}` did not answer its sample within {patience:g} s.",
                hint="Give a smaller `expected_input_json`, or raise PRISM_PREDICT_TIMEOUT_SECONDS.",
            ) from error
        finally:
            link.close()
        signature = msgspec.convert(welcome.get("signature"), Signature)
        told = ("python", "adapter", "libraries", "execution", "confinement")
        facts = {key: welcome[key] for key in told if key in welcome}
        await self._ledger.amend(model.model_id, signature=signature, sample=sample, runtime=facts)

    async def _welcome(self, model: Model, replica: Replica) -> tuple[ReplicaLink, dict[str, Any]]:
        target = self.target(model)
        timeout = self._settings.start_timeout_seconds
        deadline = monotonic() + timeout
        while True:
            try:
                return await self._connect(replica, max(0.1, min(1.0, deadline - monotonic())))
            except Unavailable:
                state = await target.state(replica)
            if not state.running:
                raise StartFailed(
                    f"`{model.name}` stopped while loading: {await self._last_words(model, replica, state.detail)}",
                    hint=f"See the whole log with GET /models/{model.model_id}/logs.",
                )
            if monotonic() > deadline:
                raise StartFailed(
                    f"`{model.name}` did not load within {timeout:g} s.",
                    hint=f"Raise PRISM_START_TIMEOUT_SECONDS, or see GET /models/{model.model_id}/logs.",
                )
            await asyncio.sleep(START_POLL_SECONDS)

    async def last_lines(self, model: Model, replica: Replica, count: int = 50) -> list[str]:
        folder = self._ledger.folder(model.model_id)
        if replica.form is FormName.CONVERTER and model.converter is not None:
            folder /= model.converter.log_folder
        return [line.text async for line in self.target(model).logs(replica, folder, count, False)]

    async def _last_words(self, model: Model, replica: Replica, detail: str) -> str:
        lines = telling_lines(await self.last_lines(model, replica))
        return " | ".join((detail, *lines)) if detail else " | ".join(lines) or "it said nothing"

    async def _publish(self, model: Model, replica: Replica) -> list[Deployment]:
        """Traffic moves in one step: the new replica in, and out what it replaces, which is returned.

        It has moved before the record says so: whoever reads `live` there may ask at once.
        """
        async with self._publishing:
            rivals = [one for one in self._ledger.deployments() if self._replaces(model, one)]
            for rival in rivals:
                await self._ledger.update(rival.model_id, status=Status.STOPPED, wanted=False)
            live = self._ledger.going_live(model.model_id, replica)
            await self._traffic.publish(self._ledger.route_table(live))
            await self._ledger.record(live)
        return rivals

    def _replaces(self, model: Model, other: Deployment) -> bool:
        rival = other.name == model.name or (
            self._settings.single_active_model and not self._is_of_folder(model, other)
        )
        return rival and other.model_id != model.model_id and (serves(other) or other.status is Status.UNHEALTHY)

    def _is_of_folder(self, model: Model, other: Deployment) -> bool:
        """Models of the models folder live side by side: none of them is one of those of which only one is active."""
        beside = self._ledger.model(other.model_id)
        return bool(model.models_folder) or (beside is not None and bool(beside.models_folder))

    async def _retire(self, rival: Deployment) -> None:
        model = self._ledger.model(rival.model_id)
        if model is None or rival.replica is None:  # deleted meanwhile, or it had no replica left
            return
        await self.stop_replica(model, rival.replica)
        with contextlib.suppress(NotFound):
            if self._ledger.deployment(rival.model_id).replica == rival.replica:  # not started again meanwhile
                await self._ledger.update(rival.model_id, replica=None)

    async def publish_now(self) -> None:
        """Make the traffic follow the ledger."""
        async with self._publishing:
            await self._traffic.publish(self._ledger.route_table())

    async def stop_replica(self, model: Model, replica: Replica) -> None:
        """Drain, then stop: every request it took is answered first, as far as the drain timeout allows."""
        await self._end_replica(model, replica, self._settings.drain_timeout_seconds)

    async def kill_replica(self, model: Model, replica: Replica) -> None:
        """Stop one that answers no more, without waiting for it."""
        await self._end_replica(model, replica, 0)

    async def _end_replica(self, model: Model, replica: Replica, patience_seconds: float) -> None:
        await self._traffic.drained(replica, patience_seconds)
        try:
            await self.target(model).stop(replica, patience_seconds)
        except PrismError as error:
            log.error("a replica could not be stopped", model=model.ref, replica=replica.id, error=str(error))


def runtime_requirements() -> tuple[str, ...]:
    """What the runtime itself needs in every environment."""
    lines = (line.split("#")[0].strip() for line in RUNTIME_REQUIREMENTS.read_text().splitlines())
    return tuple(line for line in lines if line)
