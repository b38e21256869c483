"""Canaries in the SDK: the methods of both clients, and the objects that they return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Protocol, TypeVar, Unpack

from prism import rollouts
from prism.requests import Call
from prism.rollouts import Action, CanaryOptions, Rollout, RolloutEvent

T = TypeVar("T")
LOOK_SECONDS = 0.5
"""Time between two looks at a rollout that is waited for."""


class Sends(Protocol):
    def send(self, call: Call[T]) -> T: ...


class SendsAsync(Protocol):
    async def send(self, call: Call[T]) -> T: ...


class SeenRollout:
    """A rollout as it was when it was last looked at, in `rollout`."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout

    @property
    def id(self) -> str:
        return self.rollout.id

    @property
    def name(self) -> str:
        return self.rollout.name

    @property
    def state(self) -> str:
        return self.rollout.state

    @property
    def reason(self) -> str:
        """Return why it is in its state, for a person, with numbers and request ids; "" where there is nothing to say."""
        return self.rollout.reason or ""


class CanaryState(SeenRollout):
    """A canary. state: pending, running, holding, paused, promoted, done, rolled_back or failed."""

    @property
    def split(self) -> dict[str, float]:
        """Return the share of the requests in percent, by version number."""
        return self.rollout.split

    def __repr__(self) -> str:
        shares = ", ".join(f"{version}: {share:g} %" for version, share in self.split.items())
        return f"<{type(self).__name__} {self.name} {self.state} ({shares})>"


class Canary(CanaryState):
    """Canary of a model, in a synchronous client."""

    def __init__(self, client: Sends, rollout: Rollout) -> None:
        super().__init__(rollout)
        self._client = client

    def refresh(self) -> Canary:
        """Look at it again; returns itself."""
        self.rollout = self._client.send(rollouts.current(self.id))
        return self

    def wait(self, timeout_seconds: float | None = None) -> Canary:
        """Wait until it is promoted, rolled back or failed, or the time is over; returns itself.

        One whose steps do not end at 100 % waits for `promote`.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self.refresh().rollout.is_decided and (deadline is None or time.monotonic() < deadline):
            time.sleep(LOOK_SECONDS)
        return self

    def events(self, after: int = 0) -> list[RolloutEvent]:
        """Return what happened to it, in order. after: only events with a greater number."""
        return self._client.send(rollouts.events(self.id, after))

    def follow(self) -> Iterator[list[RolloutEvent]]:
        """Look at it until it is decided; yield after each look what happened since the one before."""
        after = 0
        while True:
            is_decided = self.refresh().rollout.is_decided
            new = self.events(after)
            after = new[-1].number if new else after
            yield new
            if is_decided:
                return
            time.sleep(LOOK_SECONDS)

    def promote(self) -> Canary:
        """Give the candidate all requests."""
        return self._act("promote")

    def rollback(self) -> Canary:
        """Give the stable version all requests again, at once."""
        return self._act("rollback")

    def pause(self) -> Canary:
        """Keep it at its step; it is still judged."""
        return self._act("pause")

    def resume(self) -> Canary:
        return self._act("resume")

    def _act(self, action: Action) -> Canary:
        self.rollout = self._client.send(rollouts.act(self.id, action))
        return self


class AsyncCanary(CanaryState):
    """Canary of a model, in an asynchronous client."""

    def __init__(self, client: SendsAsync, rollout: Rollout) -> None:
        super().__init__(rollout)
        self._client = client

    async def refresh(self) -> AsyncCanary:
        """Look at it again; returns itself."""
        self.rollout = await self._client.send(rollouts.current(self.id))
        return self

    async def wait(self, timeout_seconds: float | None = None) -> AsyncCanary:
        """Wait until it is promoted, rolled back or failed, or the time is over; returns itself.

        One whose steps do not end at 100 % waits for `promote`.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not (await self.refresh()).rollout.is_decided and (deadline is None or time.monotonic() < deadline):
            await asyncio.sleep(LOOK_SECONDS)
        return self

    async def events(self, after: int = 0) -> list[RolloutEvent]:
        """Return what happened to it, in order. after: only events with a greater number."""
        return await self._client.send(rollouts.events(self.id, after))

    async def follow(self) -> AsyncIterator[list[RolloutEvent]]:
        """Look at it until it is decided; yield after each look what happened since the one before."""
        after = 0
        while True:
            is_decided = (await self.refresh()).rollout.is_decided
            new = await self.events(after)
            after = new[-1].number if new else after
            yield new
            if is_decided:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def promote(self) -> AsyncCanary:
        """Give the candidate all requests."""
        return await self._act("promote")

    async def rollback(self) -> AsyncCanary:
        """Give the stable version all requests again, at once."""
        return await self._act("rollback")

    async def pause(self) -> AsyncCanary:
        """Keep it at its step; it is still judged."""
        return await self._act("pause")

    async def resume(self) -> AsyncCanary:
        return await self._act("resume")

    async def _act(self, action: Action) -> AsyncCanary:
        self.rollout = await self._client.send(rollouts.act(self.id, action))
        return self


class CanaryMethods:
    """Methods of a synchronous client for canaries."""

    def send(self, call: Call[T]) -> T:
        raise NotImplementedError

    def create_canary(
        self,
        name: str,
        candidate_version: str,
        initial_percentage: float | None = None,
        auto_rollback_threshold: float | None = None,
        **options: Unpack[CanaryOptions],
    ) -> Canary:
        """Give a version a share of a model's requests, and judge its answers; returns once that is decided on.

        candidate_version: its number. initial_percentage: its share at first, 0 to 100; default: the first of `steps`,
        or 5. auto_rollback_threshold: share of bad answers, 0 to 1, above which it is rolled back; default 0.02.
        options: `steps`, `bake_seconds` and the others of `CanaryOptions`. Raises ConflictError if the model has a
        rollout already, and BadRequestError for a value that makes no sense.
        """
        call = rollouts.begin(name, candidate_version, initial_percentage, auto_rollback_threshold, options)
        return Canary(self, self.send(call))

    def canary(self, name: str) -> Canary:
        """Return the canary of a model that is not over, otherwise its last one. Raises NotFoundError if it had none."""
        return Canary(self, rollouts.canary_of(name, self.rollouts(name)))

    def promote_canary(self, name: str) -> Canary:
        """Give the candidate all requests. The stable version stays warm, and `rollback_canary` still goes back."""
        return self.canary(name).promote()

    def rollback_canary(self, name: str) -> Canary:
        """Give the stable version all requests again, at once, and stop the candidate."""
        return self.canary(name).rollback()

    def pause_canary(self, name: str) -> Canary:
        """Keep the canary at its step; it is still judged."""
        return self.canary(name).pause()

    def resume_canary(self, name: str) -> Canary:
        return self.canary(name).resume()

    def rollouts(self, name: str = "") -> list[Rollout]:
        """Return the rollouts of a model, or of all, the newest first."""
        return self.send(rollouts.listed(name))


class AsyncCanaryMethods:
    """Methods of an asynchronous client for canaries."""

    async def send(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def create_canary(
        self,
        name: str,
        candidate_version: str,
        initial_percentage: float | None = None,
        auto_rollback_threshold: float | None = None,
        **options: Unpack[CanaryOptions],
    ) -> AsyncCanary:
        """Give a version a share of a model's requests, and judge its answers; returns once that is decided on.

        candidate_version: its number. initial_percentage: its share at first, 0 to 100; default: the first of `steps`,
        or 5. auto_rollback_threshold: share of bad answers, 0 to 1, above which it is rolled back; default 0.02.
        options: `steps`, `bake_seconds` and the others of `CanaryOptions`. Raises ConflictError if the model has a
        rollout already, and BadRequestError for a value that makes no sense.
        """
        call = rollouts.begin(name, candidate_version, initial_percentage, auto_rollback_threshold, options)
        return AsyncCanary(self, await self.send(call))

    async def canary(self, name: str) -> AsyncCanary:
        """Return the canary of a model that is not over, otherwise its last one. Raises NotFoundError if it had none."""
        return AsyncCanary(self, rollouts.canary_of(name, await self.rollouts(name)))

    async def promote_canary(self, name: str) -> AsyncCanary:
        """Give the candidate all requests. The stable version stays warm, and `rollback_canary` still goes back."""
        return await (await self.canary(name)).promote()

    async def rollback_canary(self, name: str) -> AsyncCanary:
        """Give the stable version all requests again, at once, and stop the candidate."""
        return await (await self.canary(name)).rollback()

    async def pause_canary(self, name: str) -> AsyncCanary:
        """Keep the canary at its step; it is still judged."""
        return await (await self.canary(name)).pause()

    async def resume_canary(self, name: str) -> AsyncCanary:
        return await (await self.canary(name)).resume()

    async def rollouts(self, name: str = "") -> list[Rollout]:
        """Return the rollouts of a model, or of all, the newest first."""
        return await self.send(rollouts.listed(name))
