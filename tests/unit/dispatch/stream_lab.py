"""A gateway whose replica streams."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.access.rate_limit import RateLimiter
from app.core.address import Address
from app.core.model import Deployment, Replica, Status
from app.core.route_table import RouteTable, route_table
from app.dispatch.batch import Lane
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.dispatch.stream import Stream
from model_container.adapters.estimator import EstimatorAdapter
from model_container.contract import frames
from model_container.server.server import Server
from tests.unit.model_container.streaming_lab import Model

FLOW = QueueSettings(
    max_batch_size=8,
    queue_length=32,
    window_seconds=0.05,
    timeout_seconds=20,
    heartbeat_timeout_seconds=20,
    max_streams=2,
)


class Gateway:
    """One model, `counter`, whose replicas really stream. names: of the replicas, by their sockets."""

    def __init__(self, folder: Path, model: Model, flow: QueueSettings, rate_limit: int = 0) -> None:
        self.model = model
        self.dispatcher = Dispatcher(RateLimiter(rate_limit, 3600), flow, lambda *_: None)
        self._folder = folder
        self._servers: list[Server] = []

    def replica(self) -> Replica:
        path = str(self._folder / f"real-{len(self._servers)}.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(8)
        server = Server(EstimatorAdapter(self.model), {"protocol": frames.PROTOCOL, "streams": True}, "token")
        server.start([listener])
        self._servers.append(server)
        return Replica("m1", "process", path, "token", "", Address(socket=path))

    async def publish(self, replica: Replica) -> None:
        await self.dispatcher.publish(table_of(replica))

    def stream(self, count: int, caller: str = "me") -> Stream:
        return self.dispatcher.stream(Call("counter", json.dumps({"features": [[count]]}).encode(), caller))

    @property
    def lane(self) -> Lane:
        return self.dispatcher.lanes[0]

    async def close(self) -> None:
        await self.dispatcher.close()
        for gate in self.model.gates.values():
            gate.set()
        for server in self._servers:
            await asyncio.to_thread(server.stop)


def table_of(replica: Replica) -> RouteTable:
    return route_table([Deployment("m1", "counter", "1.0.0", Status.LIVE, True, "process", (replica,), live_at="2026")])


@asynccontextmanager
async def gateway(
    folder: Path, model: Model | None = None, flow: QueueSettings = FLOW, rate_limit: int = 0
) -> AsyncIterator[Gateway]:
    here = Gateway(folder, model or Model(), flow, rate_limit)
    try:
        await here.publish(here.replica())
        yield here
    finally:
        await here.close()
