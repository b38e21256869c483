"""Starts replicas, waits until they have loaded, has them answer a sample, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

import structlog
from msgspec import Struct, structs

from app.core.model import ModelVersion, Replica, Variant
from app.errors import (
    PrismError,
    ProbeFailed,
    ReplicaProtocolError,
    StartFailed,
    TargetUnavailable,
    TooManyOpenFiles,
    Unavailable,
)
from app.lifecycle.logs.build_log import BuildLog, error_lines
from app.lifecycle.probe import Connect, ProbedConnection, probe
from app.lifecycle.publish import Publisher
from app.lifecycle.settings import DeploymentSettings
from app.lifecycle.state import DeploymentState
from app.lifecycle.welcome import Welcome, facts_of, welcome_of
from app.runtime.target import Target, Targets

log = structlog.get_logger(__name__)

START_POLL_SECONDS = 0.02
REPLICA_LOGS = "replicas"
"""The folder, below a model's folder, for the logs of its replicas from number 2 on; each has a folder of its own."""

STARTS_AT_A_TIME = 4
"""How many replicas of one model load at once: each uses a core while it loads, and a laptop has few."""


class StartedReplica(Struct, frozen=True):
    """A replica that has loaded and takes no traffic yet. facts: what it reported about itself, to be recorded."""

    replica: Replica
    connection: ProbedConnection
    welcome: Welcome
    facts: dict[str, Any]


class Starter:
    """The start and end of single replicas, on whatever target."""

    def __init__(
        self,
        settings: DeploymentSettings,
        state: DeploymentState,
        targets: Targets,
        connect: Connect,
        publisher: Publisher,
    ) -> None:
        self._settings = settings
        self._state = state
        self._targets = targets.offered
        self._connect = connect
        self._publisher = publisher
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def target(self, model: ModelVersion) -> Target:
        """Return the target where this model runs. Raises TargetUnavailable if this machine does not have it."""
        name = model.target or next(iter(self._targets), None)
        if name is None or name not in self._targets:
            raise TargetUnavailable(
                f"The target `{name}` of `{model.name}` is not available on this machine"
                f"{', but `gpu` needs it' if model.spec.execution.gpus else ''}.",
                hint="`prism doctor` says what is missing; or upload with another target.",
            )
        return self._targets[name]

    async def build(self, model: ModelVersion, lines: BuildLog, variant: Variant | None = None) -> None:
        """Build the environment and the image of a variant, by default of the one that serves. Raises BuildFailed."""
        variant = variant or model.variant
        assert variant is not None  # the model was inspected and locked before
        lines.write(
            f"environment {variant.lock.hash}: Python {variant.lock.python}, {len(variant.lock.packages)} packages"
        )
        target = self.target(model)
        await target.build_environment(variant.lock, lines.write)
        await target.build_model(model, self._state.folder(model.model_id), lines.write, variant)

    async def begin(self, model: ModelVersion, number: int = 1, variant: Variant | None = None) -> StartedReplica:
        """Start a replica and wait until it has loaded. Raises StartFailed; then nothing of it is left.

        If what was built for it is gone, such as a deleted environment, it is built again from its lock.
        """
        variant = variant or model.variant
        if variant is not None and number > 1:
            variant = structs.replace(variant, log_folder=log_folder(number))
        folder = self._state.folder(model.model_id)
        if variant is not None:
            (folder / variant.log_folder).mkdir(parents=True, exist_ok=True)
        # A start clears up after replicas that died; two starts cannot do that at once.
        turn = self._turns.setdefault(model.model_id, asyncio.Lock())
        async with turn:
            if variant is not None and not await self.target(model).is_built(model, variant):
                lines = BuildLog(folder)
                lines.write("the built environment is missing on this machine; it is built again")
                await self.build(model, lines, variant)
            starting = asyncio.ensure_future(self.target(model).start(model, folder, self._settings.limits, variant))
            try:
                replica = structs.replace(await asyncio.shield(starting), number=number)
            except asyncio.CancelledError:
                with contextlib.suppress(PrismError):  # the target starts it all the same, and no record would list it
                    await self.kill(model, await starting)
                raise
        try:
            connection, report = await self._welcome(model, replica)
            welcome = self._read(model, connection, report)
        except BaseException:
            await self.kill(model, replica)
            raise
        return StartedReplica(replica, connection, welcome, facts_of(report))

    def _read(self, model: ModelVersion, connection: ProbedConnection, report: dict[str, Any]) -> Welcome:
        try:
            return welcome_of(report)
        except ValueError as error:
            connection.close()
            raise StartFailed(f"The runtime of `{model.name}` does not say what it serves: {error}.") from None

    async def begin_all(
        self, model: ModelVersion, numbers: Sequence[int]
    ) -> tuple[list[StartedReplica], list[PrismError]]:
        """Start several replicas, a few at a time. Returns those that have loaded, and the failures of the others.

        If all of the first few fail, the others are not tried, as they would fail for the same reason.
        """
        room = asyncio.Semaphore(STARTS_AT_A_TIME)
        loaded: list[StartedReplica] = []
        failures: list[PrismError] = []

        async def begin_one(number: int) -> None:
            async with room:
                try:
                    loaded.append(await self.begin(model, number))
                except PrismError as error:
                    failures.append(error)

        try:
            await gather_all(map(begin_one, numbers[:STARTS_AT_A_TIME]))
            if loaded:
                await gather_all(map(begin_one, numbers[STARTS_AT_A_TIME:]))
        except BaseException:
            await self.end_all(model, loaded)
            raise
        return loaded, failures

    async def probe_all(
        self, model: ModelVersion, loaded: list[StartedReplica]
    ) -> tuple[list[Replica], list[PrismError]]:
        """Probe the replicas. Returns those that answer their sample, and the failures of others, which are killed."""
        good: list[Replica] = []
        failures: list[PrismError] = []

        async def probe_one(started: StartedReplica) -> None:
            try:
                await self.probe(model, started)
            except PrismError as error:
                failures.append(error)
                await self.kill(model, started.replica)
            else:
                good.append(started.replica)

        try:
            await gather_all(map(probe_one, loaded))
        except BaseException:
            await self.end_all(model, loaded)
            raise
        return sorted(good, key=lambda replica: replica.number), failures

    async def end_all(self, model: ModelVersion, loaded: Iterable[StartedReplica]) -> None:
        """Close and kill replicas that never received traffic."""
        for started in loaded:
            started.connection.close()
        await asyncio.gather(*(self.kill(model, started.replica) for started in loaded))

    @contextlib.asynccontextmanager
    async def opened(self, model: ModelVersion, variant: Variant) -> AsyncIterator[ProbedConnection]:
        """Yield a connection to a new replica that never takes traffic. The replica ends with the block."""
        started = await self.begin(model, variant=variant)
        try:
            yield started.connection
        finally:
            started.connection.close()
            await self.kill(model, started.replica)

    async def probe(self, model: ModelVersion, started: StartedReplica) -> None:
        """Have a replica answer a sample.

        That sample, and what the runtime reports about itself and its model, are recorded.

        Raises ProbeFailed.
        """
        patience = model.spec.bounds.predict_timeout_seconds or self._settings.predict_timeout_seconds
        try:
            async with asyncio.timeout(patience):
                sample = await probe(model, started.connection, started.welcome.samples)
        except TimeoutError as error:
            raise ProbeFailed(
                f"`{model.name}` did not answer its sample within {patience:g} s.",
                hint="Give a smaller sample, or raise PRISM_PREDICT_TIMEOUT_SECONDS.",
            ) from error
        finally:
            started.connection.close()
        welcome, facts = started.welcome, started.facts
        known = self._state.model(model.model_id)
        if known is None or (known.findings.signature, known.findings.sample, known.findings.runtime) != (
            welcome.signature,
            sample,
            facts,
        ):
            await self._state.note_findings(model.model_id, signature=welcome.signature, sample=sample, runtime=facts)

    async def _welcome(self, model: ModelVersion, replica: Replica) -> tuple[ProbedConnection, dict[str, Any]]:
        target = self.target(model)
        timeout = self._settings.start_timeout_seconds
        deadline = monotonic() + timeout
        while True:
            try:
                return await self._connect(replica, max(0.1, min(1.0, deadline - monotonic())))
            except ReplicaProtocolError as error:
                raise StartFailed(f"`{model.name}` cannot be served: {error.detail}") from error
            except TooManyOpenFiles:  # a limit of this server, not of the replica
                raise
            except Unavailable:
                state = await target.state(replica)
            if not state.running:
                raise StartFailed(
                    f"`{model.name}` stopped while loading: {await self._last_words(model, replica, state.detail)}",
                    hint=f"`prism logs {model.ref}` shows the whole log.",
                )
            if monotonic() > deadline:
                raise StartFailed(
                    f"`{model.name}` did not load within {timeout:g} s.",
                    hint=f"Raise PRISM_START_TIMEOUT_SECONDS. `prism logs {model.ref}` shows what it did.",
                )
            await asyncio.sleep(START_POLL_SECONDS)

    async def last_lines(self, model: ModelVersion, replica: Replica, count: int = 50) -> list[str]:
        folder = self._state.folder(model.model_id) / replica_log_folder(model, replica)
        return [line.text async for line in self.target(model).logs(replica, folder, count, False)]

    async def _last_words(self, model: ModelVersion, replica: Replica, detail: str) -> str:
        lines = error_lines(await self.last_lines(model, replica))
        return " | ".join((detail, *lines)) if detail else " | ".join(lines) or "no output"

    async def stop(self, model: ModelVersion, replica: Replica) -> None:
        """Drain a replica, then stop it. Its requests are answered first, as far as the drain timeout allows."""
        await self._end(model, replica, self._settings.drain_timeout_seconds)

    async def kill(self, model: ModelVersion, replica: Replica) -> None:
        """Stop a replica that answers no more, or took no traffic, without draining it."""
        await self._end(model, replica, 0)

    async def stop_all(self, model: ModelVersion, replicas: Iterable[Replica]) -> None:
        """Drain and stop several replicas at the same time."""
        await asyncio.gather(*(self.stop(model, replica) for replica in replicas))

    async def _end(self, model: ModelVersion, replica: Replica, patience_seconds: float) -> None:
        await self._publisher.drained(replica, patience_seconds)
        try:
            await self.target(model).stop(replica, patience_seconds)
        except PrismError as error:
            log.error("a replica could not be stopped", model=model.ref, replica=replica.id, error=str(error))


def log_folder(number: int) -> str:
    """Return the folder, relative to the model's, for the log of whichever replica has this number."""
    return "" if number == 1 else f"{REPLICA_LOGS}/{number}"


def replica_log_folder(model: ModelVersion, replica: Replica) -> str:
    variant = model.converter if model.converter is not None and replica.variant is model.converter.name else None
    return variant.log_folder if variant is not None else log_folder(replica.number)


async def gather_all(works: Iterable[Any]) -> None:
    """Wait for all awaitables, even if one fails; then raise the first one's exception."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
