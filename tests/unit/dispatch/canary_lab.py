"""A stable version and a candidate of one name, whose faults are the test's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from app.core.model import Deployment
from app.core.route import Arm, Canary, CopyBounds, Route
from app.core.route_table import route_table
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from model_container.contract import frames
from model_container.contract.frames import Answer, Request
from tests.fakes import FakeReplica, Handler, echo
from tests.unit.dispatch.batch_lab import FLOW, dispatching, live

STABLE, CANDIDATE = "m1", "m2"


def problem(status: int) -> Answer:
    return Answer(b'{"code":"prediction_failed","detail":"No."}', status, frames.FORM_PROBLEM)


def answering(answer: Answer) -> Handler:
    async def handler(requests: list[Request]) -> list[Answer]:
        return [answer] * len(requests)

    return handler


async def lost(_: list[Request]) -> list[Answer]:
    """Ends the connection in the place of an answer, as a process that dies."""
    raise ConnectionResetError


async def hanging(_: list[Request]) -> list[Answer]:
    await asyncio.Event().wait()
    raise AssertionError


def canary_route(share: float = 1.0, **options: object) -> Route:
    """options: of the canary, but for `rollout_id`, which is the route's. Copies are made only if `boost` asks for it."""
    rollout_id = str(options.pop("rollout_id", "r1"))
    canary = Canary(STABLE, CANDIDATE, **{"boost": False, **options})  # type: ignore[arg-type]
    return Route((Arm(STABLE, 1 - share), Arm(CANDIDATE, share)), canary=canary, rollout_id=rollout_id)


def shadow_route(**bounds: Any) -> Route:
    """All requests go to STABLE and are copied to CANDIDATE. bounds: of the copies."""
    ample = {"per_second": 100_000.0, "in_flight": 1000}
    return Route((Arm(STABLE, 1.0),), CANDIDATE, rollout_id="s1", copies=CopyBounds(**{**ample, **bounds}))


class Versions:
    """stable, candidate: their replicas. deployments: of both. side_effects: whether they are declared to have some."""

    side_effects = False

    def __init__(self, dispatcher: Dispatcher, stable: FakeReplica, candidate: FakeReplica) -> None:
        self.dispatcher = dispatcher
        self.stable = stable
        self.candidate = candidate

    @property
    def deployments(self) -> list[Deployment]:
        both = ((self.stable, STABLE, "1.0.0"), (self.candidate, CANDIDATE, "2.0.0"))
        return [
            structs.replace(
                live(fake, model_id=model_id),
                version=version,
                live_at=f"2026-{model_id}",
                side_effects=self.side_effects,
            )
            for fake, model_id, version in both
        ]

    async def publish(self, route: Route | None) -> None:
        await self.dispatcher.publish(route_table(self.deployments, splits={"iris": route} if route else {}))


@asynccontextmanager
async def under_canary(
    folder: Path,
    candidate: Handler = echo,
    stable: Handler = echo,
    *,
    route: Route | None = None,
    flow: QueueSettings = FLOW,
) -> AsyncIterator[Versions]:
    fakes = [FakeReplica(folder / f"{n}.sock", handler) for n, handler in enumerate((stable, candidate))]
    for fake in fakes:
        await fake.start()
    try:
        async with dispatching(flow=flow) as dispatcher:
            versions = Versions(dispatcher, *fakes)
            await versions.publish(canary_route() if route is None else route)
            yield versions
    finally:
        for fake in fakes:
            await fake.die()
