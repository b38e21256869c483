"""Changes the replicas of a live model: adds, removes or replaces them. The model serves all the while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from app.core.model import REPLICAS_MAX, ModelVersion, Replica, Status
from app.core.route_table import is_serving
from app.errors import Conflict, PrismError
from app.lifecycle.publish import Publisher, degraded
from app.lifecycle.start import STARTS_AT_A_TIME, Starter, gather_all
from app.lifecycle.state import DeploymentState


class Replicas:
    """The replicas of models that take traffic, as the record lists them."""

    def __init__(self, state: DeploymentState, starter: Starter, publisher: Publisher) -> None:
        self._state = state
        self._starter = starter
        self._publisher = publisher

    async def fill(self, model: ModelVersion) -> None:
        """Start the replicas missing from the wanted number; each takes traffic as soon as it answers its sample.

        Raises the first failure if no replica serves in the end; otherwise the record says what is missing and why.
        """
        room = asyncio.Semaphore(STARTS_AT_A_TIME)
        failures: list[PrismError] = []

        async def add(number: int) -> None:
            async with room:
                try:
                    with contextlib.suppress(Conflict):  # it is not wanted any more
                        await self.add(model, number)
                except PrismError as error:
                    failures.append(error)

        present = self._state.deployment(model.model_id).replicas
        await gather_all(add(number) for number in self._missing(model, present))
        await self.note_missing(model, failures)

    async def note_missing(self, model: ModelVersion, failures: Sequence[PrismError]) -> None:
        """Record which replicas are missing after starts with these failures.

        Raises the first failure if no replica serves.
        """
        now, wanted = self._state.deployment(model.model_id), self._state.replicas_wanted(model)
        if failures and not is_serving(now):
            raise failures[0]
        if failures and len(now.replicas) < wanted:
            await self._state.update(model.model_id, error=degraded(len(now.replicas), wanted, failures[0]))
        if is_serving(now) and now.status is not Status.LIVE:  # a replacement was given up
            await self._state.update(model.model_id, status=Status.LIVE)

    async def add(self, model: ModelVersion, number: int, admit: Callable[[Replica], None] = lambda _: None) -> Replica:
        """Start one more replica; it takes traffic as soon as it answers its sample. admit: called right before that.

        Raises what the failing step raised, Conflict if the replica is not wanted any more; then nothing of it is left.
        """
        model = self._state.model(model.model_id) or model
        started = await self._starter.begin(model, number)
        try:
            await self._starter.probe(model, started)
            admit(started.replica)
            await self._publisher.join(model, started.replica)
        except BaseException:
            await self._starter.stop(model, started.replica)
            raise
        return started.replica

    def free_number(self, model: ModelVersion, starting: Collection[int]) -> int:
        """Return a number for one more replica, besides those that run and those that are starting."""
        used = {replica.number for replica in self._state.deployment(model.model_id).replicas}.union(starting)
        return next(number for number in range(1, REPLICAS_MAX + 1) if number not in used)

    def _missing(self, model: ModelVersion, present: Iterable[Replica]) -> list[int]:
        """Return the numbers of the replicas to start."""
        used = {replica.number for replica in present}
        free = [number for number in range(1, REPLICAS_MAX + 1) if number not in used]
        return free[: max(0, self._state.replicas_wanted(model) - len(used))]

    async def trim(self, model: ModelVersion) -> None:
        """Take the replicas beyond the wanted number out of the traffic, drain and stop them."""
        extra = self._state.deployment(model.model_id).replicas[self._state.replicas_wanted(model) :]
        if extra:
            await self._publisher.leave(model, extra)
            await self._starter.stop_all(model, extra)

    async def roll(self, model: ModelVersion) -> None:
        """Replace one replica after another, then start missing ones.

        Raises what the failing step raised; the replicas that are left serve on.
        """
        for before in self._state.deployment(model.model_id).replicas:
            if before not in self._state.deployment(model.model_id).replicas:
                continue  # lost meanwhile
            async with self._state.step(model.model_id, Status.STARTING):
                started = await self._starter.begin(model, before.number)
            try:
                async with self._state.step(model.model_id, Status.PROBING):
                    await self._starter.probe(model, started)
                await self._publisher.exchange(model, before, started.replica)
            except Conflict:  # lost meanwhile
                await self._starter.stop(model, started.replica)
                continue
            except BaseException:
                await self._starter.stop(model, started.replica)
                raise
            await self._stop_replaced(model, before)
        await self.fill(model)

    async def exchange_variant(self, model: ModelVersion, record: Callable[[], Awaitable[object]]) -> None:
        """Replace every replica of another variant by one of the model's present variant, leaving the status as it is.

        record: called once the first new replica serves.
        Raises Conflict if the model was stopped or replaced meanwhile, otherwise what the failing step raised. If
        `record` was not called, nothing has changed then.
        """
        assert model.variant is not None  # the model serves
        variant, is_recorded = model.variant.name, False
        while is_serving(now := self._state.deployment(model.model_id)):
            before = next((replica for replica in now.replicas if replica.variant is not variant), None)
            if before is None:
                return
            started = await self._starter.begin(model, before.number)
            try:
                await self._starter.probe(model, started)
                await self._publisher.exchange(model, before, started.replica)
            except Conflict:  # `before` was lost meanwhile
                await self._starter.kill(model, started.replica)
                continue
            except BaseException:
                await self._starter.kill(model, started.replica)
                raise
            try:
                if not is_recorded:
                    await record()
                    is_recorded = True
            finally:  # no record lists it any more, whether or not the new one could be written
                await self._stop_replaced(model, before)
        raise Conflict(f"`{model.name}` was stopped or replaced in the meantime.")

    async def _stop_replaced(self, model: ModelVersion, replica: Replica) -> None:
        try:
            await self._starter.stop(model, replica)
        except asyncio.CancelledError:
            await self._starter.kill(model, replica)
            raise
