"""A dispatcher over fake replicas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.access.rate_limit import RateLimiter
from app.core.model import Deployment, Status
from app.core.route_table import route_table
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call, Prediction
from tests.fakes import FakeReplica

FLOW = QueueSettings(
    max_batch_size=8, queue_length=32, window_seconds=0.05, timeout_seconds=20, heartbeat_timeout_seconds=20
)


def live(fake: FakeReplica, name: str = "iris", model_id: str = "m1") -> Deployment:
    return Deployment(
        model_id, name, "1.0.0", Status.LIVE, True, "process", (fake.replica,), live_at="2026", created_at="1"
    )


@asynccontextmanager
async def dispatching(
    *deployments: Deployment,
    flow: QueueSettings = FLOW,
    suspects: list[str] | None = None,
    sample: bytes | None = None,
) -> AsyncIterator[Dispatcher]:
    reasons = [] if suspects is None else suspects
    dispatcher = Dispatcher(RateLimiter(0, 60), flow, lambda _, reason: reasons.append(reason), lambda _: sample)
    await dispatcher.publish(route_table(deployments))
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


def call(body: object, ref: str = "iris") -> Call:
    return Call(ref, json.dumps(body).encode(), "127.0.0.1")


async def outcomes(dispatcher: Dispatcher, count: int) -> list[Prediction | BaseException]:
    return await asyncio.gather(*(dispatcher.predict(call(n)) for n in range(count)), return_exceptions=True)
