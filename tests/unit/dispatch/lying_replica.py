"""A replica that says whatever a test has it say: what a hostile model can do, which shares its runtime's connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from app.core.address import Address
from app.core.model import Deployment, Replica, Status
from app.dispatch.connection import WireLimits
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from model_container.contract import frames
from model_container.contract.frames import Answer, Frame
from tests.fakes import FakeReplica
from tests.unit.dispatch.batch_lab import dispatching, live

WIRE = WireLimits(max_answer_bytes=1 << 20, stall_seconds=0.3)
FLOW = QueueSettings(8, 64, 0.05, 20, 20, wire=WIRE)
WELCOME = b'{"protocol":1,"streams":true,"samples":[[1]],"signature":{"kind":"table","inputs":[]}}'
PLAIN = b'{"predictions":[1]}'

Lie = Callable[[Frame], Iterable[bytes]]
"""What is written when a frame comes, in one write each; after the last of it nothing, unless another frame comes."""


def honest(frame: Frame) -> list[bytes]:
    if frame.kind == frames.PING:
        return [frames.encode(0, frames.PONG, b'{"busy_ms":0}')]
    return [frames.encode_answers(frame.id, [Answer(PLAIN)] * max(1, frame.items), 1, 1)]


class LyingReplica:
    """hears: frames that came after HELLO. sent: bytes that the gateway took. hangs_up: right after its welcome."""

    def __init__(self, path: Path, lie: Lie, welcome: bytes = frames.encode(0, frames.WELCOME, WELCOME)) -> None:
        self.replica = Replica("liar", "process", str(path), "token", "", Address(socket=str(path)))
        self.lie = lie
        self.welcome = welcome
        self.hears: list[Frame] = []
        self.sent = 0
        self.connections = 0
        self.hangs_up = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def deployment(self) -> Deployment:
        return Deployment("liar", "liar", "1.0.0", Status.LIVE, True, "process", (self.replica,), live_at="2026")

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.replica.address.socket)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            await self._talk(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cutter = frames.FrameReader()
        while data := await reader.read(1 << 16):
            for frame in cutter.feed(data):
                if frame.kind == frames.HELLO:
                    self.connections += 1
                    await self._write(writer, self.welcome)
                    if self.hangs_up:
                        await self._write(writer, b"")
                    continue
                self.hears.append(frame)
                for part in self.lie(frame):
                    await self._write(writer, part)

    async def _write(self, writer: asyncio.StreamWriter, part: bytes) -> None:
        if not part:  # the end of the connection
            writer.close()
            return
        writer.write(part)
        await writer.drain()
        self.sent += len(part)


@asynccontextmanager
async def lying(path: Path, lie: Lie) -> AsyncIterator[LyingReplica]:
    liar = LyingReplica(path, lie)
    await liar.start()
    try:
        yield liar
    finally:
        await liar.stop()


@asynccontextmanager
async def beside_iris(
    folder: Path, lie: Lie, flow: QueueSettings = FLOW
) -> AsyncIterator[tuple[Dispatcher, LyingReplica, FakeReplica]]:
    """Two models of one gateway: `liar`, whose replica lies, and `iris`, whose replica does not."""
    iris = FakeReplica(folder / "iris.sock")
    await iris.start()
    async with lying(folder / "liar.sock", lie) as liar:
        async with dispatching(live(iris), liar.deployment, flow=flow) as dispatcher:
            yield dispatcher, liar, iris
    await iris.die()


async def soon(answer: Awaitable[object], seconds: float = 10.0) -> object:
    """What it gives or raises, which must be long before the deadline of a request in FLOW."""
    async with asyncio.timeout(seconds):
        try:
            return await answer
        except TimeoutError:
            raise
        except Exception as error:
            return error
