"""Shadows in the SDK: what the server reports of them, the methods of both clients, and the objects that they return."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar
from urllib.parse import quote

from msgspec import Struct, field

from prism import rollouts
from prism.canaries import LOOK_SECONDS, SeenRollout, Sends, SendsAsync
from prism.errors import InvalidRequest, NotFoundError
from prism.requests import Call, encode
from prism.responses import Answer, decode, record
from prism.rollouts import Rollout, RolloutEvent

T = TypeVar("T")


class Difference(Struct, frozen=True):
    """One place at which two answers differ. path: such as `predictions[3]`.

    kind: number, label, argmax, type, length, missing or extra. production, shadow: the values, long ones cut short.
    """

    path: str = ""
    field: str = ""
    kind: str = ""
    production: Any = None
    shadow: Any = None


class Disagreement(Struct, frozen=True):
    """A request that the shadow answered otherwise. cause: of a failure, such as `status 500`; "" for a difference."""

    request_id: str = ""
    at: str = ""
    cause: str = ""
    differences: list[Difference] = []


class DifferingField(Struct, frozen=True):
    """A field that differed, in so many pairs. noisy: how often production differed in it when it was asked twice.

    is_noise: it differs no more than production does from itself, and does not count.
    """

    field: str = ""
    differing: int = 0
    noisy: int = 0
    is_noise: bool = False


class Copies(Struct, frozen=True):
    """Copies of requests. dropped: not made, or not compared, as that would have been too many."""

    sent: int = 0
    answered: int = 0
    dropped: int = 0


class Latency(Struct, frozen=True):
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Latencies(Struct, frozen=True):
    production: Latency = Latency()
    shadow: Latency = Latency()


class ShadowReport(Struct, frozen=True):
    """What a shadow answered since it began, or since the server started, whichever came last.

    agreement: share of the compared answers that agree, 0 to 1, noise left out; None before the first one. failed: the
    shadow gave no good answer. uncompared: answers that could not be compared. disagreements: the last ones, the newest
    first. lost: why the shadow's version does not serve; None if it does.
    """

    id: str
    name: str = ""
    state: str = ""
    reason: str | None = None
    production_version: str = ""
    shadow_version: str = ""
    since: str = ""
    agreement: float | None = None
    compared: int = 0
    agreed: int = 0
    failed: int = 0
    uncompared: int = 0
    noise_pairs: int = 0
    waiting: int = 0
    copies: Copies = Copies()
    latency: Latencies = Latencies()
    fields: list[DifferingField] = []
    disagreements: list[Disagreement] = []
    lost: str | None = None
    document: dict[str, Any] = field(default_factory=dict)


def begin(
    name: str, production_version: str | None, shadow_version: str, *, allow_signature_change: bool
) -> Call[Rollout]:
    """Begin a shadow. Not retried: the second one would be refused."""
    given: dict[str, Any] = {"name": name, "shadow_version": shadow_version}
    if production_version is not None:
        given["production_version"] = production_version
    if allow_signature_change:
        given["allow_signature_change"] = True
    body = encode(given)
    return Call("POST", "/deployments/shadow", rollouts.rollout, body=body, patience="deploy", repeatable=False)


def stop(rollout_id: str) -> Call[Rollout]:
    """Stop a shadow. A repeated call answers the same."""
    return Call("POST", f"/deployments/{quote(rollout_id, safe='')}/stop", rollouts.rollout)


def reported(name: str) -> Call[ShadowReport]:
    """Report on a model's shadow, or its last one."""
    if not name.strip("./ "):
        raise InvalidRequest(f"{name!r} is not the name of a model.", hint="`prism ls` shows them.")
    return Call("GET", f"/monitoring/shadow/{quote(name, safe='')}", report)


def report(answer: Answer) -> ShadowReport:
    return record(ShadowReport, decode(answer))


def shadow_of(name: str, found: list[Rollout]) -> Rollout:
    """Return the last shadow of a model. found: its rollouts, the newest first. Raises NotFoundError if it had none."""
    shadow = next((each for each in found if each.kind == "shadow"), None)
    if shadow is None:
        raise NotFoundError(
            f"`{name}` has no shadow.",
            hint=f"`prism shadow start {name} --shadow VERSION` begins one; `prism versions {name}` lists the versions.",
            status=404,
            code="not_found",
        )
    return shadow


class ShadowState(SeenRollout):
    """A shadow. state: pending, running, done or failed."""

    def __repr__(self) -> str:
        versions = f"{self.rollout.candidate.version} beside {self.rollout.stable.version}"
        return f"<{type(self).__name__} {self.name} {self.state} ({versions})>"


class Shadow(ShadowState):
    """Shadow of a model, in a synchronous client."""

    def __init__(self, client: Sends, rollout: Rollout) -> None:
        super().__init__(rollout)
        self._client = client

    def refresh(self) -> Shadow:
        """Look at it again; returns itself."""
        self.rollout = self._client.send(rollouts.current(self.id))
        return self

    def wait(self, timeout_seconds: float | None = None) -> Shadow:
        """Wait until it gets copies, or has failed, or the time is over; returns itself."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self.refresh().state == "pending" and (deadline is None or time.monotonic() < deadline):
            time.sleep(LOOK_SECONDS)
        return self

    def report(self) -> ShadowReport:
        """Return how far its answers agree with production's."""
        return self._client.send(reported(self.name))

    def stop(self) -> Shadow:
        """Send it no more copies. Its version keeps running, without requests; returns itself."""
        self.rollout = self._client.send(stop(self.id))
        return self

    def events(self, after: int = 0) -> list[RolloutEvent]:
        """Return what happened to it, in order. after: only events with a greater number."""
        return self._client.send(rollouts.events(self.id, after))


class AsyncShadow(ShadowState):
    """Shadow of a model, in an asynchronous client."""

    def __init__(self, client: SendsAsync, rollout: Rollout) -> None:
        super().__init__(rollout)
        self._client = client

    async def refresh(self) -> AsyncShadow:
        """Look at it again; returns itself."""
        self.rollout = await self._client.send(rollouts.current(self.id))
        return self

    async def wait(self, timeout_seconds: float | None = None) -> AsyncShadow:
        """Wait until it gets copies, or has failed, or the time is over; returns itself."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (await self.refresh()).state == "pending" and (deadline is None or time.monotonic() < deadline):
            await asyncio.sleep(LOOK_SECONDS)
        return self

    async def report(self) -> ShadowReport:
        """Return how far its answers agree with production's."""
        return await self._client.send(reported(self.name))

    async def stop(self) -> AsyncShadow:
        """Send it no more copies. Its version keeps running, without requests; returns itself."""
        self.rollout = await self._client.send(stop(self.id))
        return self

    async def events(self, after: int = 0) -> list[RolloutEvent]:
        """Return what happened to it, in order. after: only events with a greater number."""
        return await self._client.send(rollouts.events(self.id, after))


class ShadowMethods:
    """Methods of a synchronous client for shadows."""

    def send(self, call: Call[T]) -> T:
        raise NotImplementedError

    def create_shadow(
        self,
        name: str,
        *,
        shadow_version: str,
        production_version: str | None = None,
        allow_signature_change: bool = False,
    ) -> Shadow:
        """Send a version copies of a model's requests. Callers get production's answers alone.

        production_version: the one that answers the requests, refused if another one does; None for that one.
        Raises ConflictError if the model has a rollout already, and BadRequestError for a value that makes no sense.
        """
        call = begin(name, production_version, shadow_version, allow_signature_change=allow_signature_change)
        return Shadow(self, self.send(call))

    def shadow(self, name: str) -> Shadow:
        """Return the last shadow of a model. Raises NotFoundError if it had none."""
        return Shadow(self, shadow_of(name, self.send(rollouts.listed(name))))

    def shadow_report(self, name: str) -> ShadowReport:
        """Return how far the answers of a model's shadow agree with production's. Raises NotFoundError if it had none."""
        return self.send(reported(name))


class AsyncShadowMethods:
    """Methods of an asynchronous client for shadows."""

    async def send(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def create_shadow(
        self,
        name: str,
        *,
        shadow_version: str,
        production_version: str | None = None,
        allow_signature_change: bool = False,
    ) -> AsyncShadow:
        """Send a version copies of a model's requests. Callers get production's answers alone.

        production_version: the one that answers the requests, refused if another one does; None for that one.
        Raises ConflictError if the model has a rollout already, and BadRequestError for a value that makes no sense.
        """
        call = begin(name, production_version, shadow_version, allow_signature_change=allow_signature_change)
        return AsyncShadow(self, await self.send(call))

    async def shadow(self, name: str) -> AsyncShadow:
        """Return the last shadow of a model. Raises NotFoundError if it had none."""
        return AsyncShadow(self, shadow_of(name, await self.send(rollouts.listed(name))))

    async def shadow_report(self, name: str) -> ShadowReport:
        """Return how far the answers of a model's shadow agree with production's. Raises NotFoundError if it had none."""
        return await self.send(reported(name))
