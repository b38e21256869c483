"""Stand-ins with real behaviour, for tests of what is around them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from app.artifact.reader import answer
from app.core.address import Address
from app.core.environment import Lock, Requirements
from app.core.model import Limits, ModelVersion, Replica, Variant, VariantName
from app.core.reading import Question
from app.errors import StartFailed
from app.runtime.logs.reader import LogLine
from app.runtime.target import Log, ReplicaState, StoredImage
from model_container.contract import frames
from model_container.contract.frames import Answer, Request

Handler = Callable[[list[Request]], Awaitable[list[Answer]]]
Conversion = Callable[[], Awaitable[tuple[bytes, bytes]]]


async def read_here(question: Question) -> bytes:
    """What a reader would answer, without the process and its walls."""
    return await asyncio.to_thread(answer, question)


async def resolve(_: object, requirements: Requirements, *, log: Log, timeout_seconds: float, **__: object) -> Lock:
    """Resolve requirements without an index: the same lock for all."""
    return Lock("3.11", "numpy==2.0.0")


async def cannot_convert() -> tuple[bytes, bytes]:
    return b'{"reason": "there is no converter for it"}', b""


async def echo(requests: list[Request]) -> list[Answer]:
    """Answers each request with itself as the only prediction."""
    return [Answer(b'{"predictions":[%b]}' % request.body) for request in requests]


ACCEPTING_TURNS = 8
"""Most turns of the event loop between a connection's arrival and the call of its handler."""


class FakeReplica:
    """Speaks the frames of a real runtime on a Unix socket; what it answers is the test's to say.

    batches: the sizes of the batches it got. busy_ms: what it says when pinged. silent: answers nothing, not even pings, as a stopped process would.
    """

    def __init__(self, path: Path, handler: Handler = echo, welcome: dict[str, Any] | None = None) -> None:
        address = Address(socket=str(path))
        self.replica = Replica("m1", "process", str(path), "token", "2026-01-01T00:00:00+00:00", address)
        self.batches: list[int] = []
        self.silent = False
        self.busy_ms = 0
        self.handler = handler
        self.conversion: Conversion = cannot_convert
        self._welcome = welcome or {"protocol": frames.PROTOCOL}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.replica.address.socket)

    async def die(self) -> None:
        """Every connection ends, and no new one is accepted."""
        assert self._server is not None
        self._server.close()
        Path(self.replica.address.socket).unlink(missing_ok=True)
        for _ in range(ACCEPTING_TURNS):  # also those that were just being accepted
            for writer in list(self._connections):
                writer.transport.abort()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        cutter = frames.FrameReader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                for frame in cutter.feed(data):
                    if not self.silent:
                        await self._answer(frame, writer)
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, frame: frames.Frame, writer: asyncio.StreamWriter) -> None:
        if frame.kind == frames.HELLO:
            if json.loads(frame.payload)["token"] != self.replica.token:
                writer.close()
                return
            writer.write(frames.encode(0, frames.WELCOME, json.dumps(self._welcome).encode()))
        elif frame.kind == frames.PING:
            writer.write(frames.encode(0, frames.PONG, b'{"busy_ms": %d}' % self.busy_ms))
        elif frame.kind == frames.CONVERT:
            answers = [Answer(part) for part in await self.conversion()]
            writer.write(frames.encode_answers(frame.id, answers, 1, 1))
        elif frame.kind == frames.PREDICT:
            requests = frames.decode_requests(frame)
            self.batches.append(len(requests))
            writer.write(frames.encode_answers(frame.id, await self.handler(requests), 1, 1000))


@asynccontextmanager
async def fake_replica(path: Path, handler: Handler = echo) -> AsyncIterator[FakeReplica]:
    fake = FakeReplica(path, handler)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.die()


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it holds. Raises AssertionError if it does not within `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not become true in time"
        await asyncio.sleep(0.005)


class FakeTarget:
    """A target whose replicas are FakeReplicas. `states` says what the operating system would say of each."""

    replica_noun = "process"
    platform: str | None = None
    offers_gpus = False

    def __init__(self, folder: Path, name: str = "process") -> None:
        self.name = name
        self._folder = folder
        self._numbers = itertools.count()
        self.fakes: dict[str, FakeReplica] = {}
        self.states: dict[str, ReplicaState] = {}
        self.handler: Handler = echo
        self.conversion: Conversion = cannot_convert
        self.welcome: dict[str, Any] = {"samples": [[1]], "signature": {"kind": "table", "inputs": []}}
        self.events: list[str] = []
        self.stored: list[StoredImage] = []
        self.lost = False
        """Whether somebody removed what was built."""

    @property
    def newest(self) -> FakeReplica | None:
        """The one started last, if any runs."""
        return list(self.fakes.values())[-1] if self.fakes else None

    def require_available(self) -> None:
        """It always is."""

    async def pythons(self) -> tuple[str, ...]:
        return ("3.11",)

    async def build_environment(self, lock: Lock, log: Log) -> None:
        self.lost = False
        self.events.append("environment")

    async def build_model(self, model: ModelVersion, folder: Path, log: Log, variant: Variant | None = None) -> str:
        self.events.append("model")
        return ""

    async def is_built(self, model: ModelVersion, variant: Variant) -> bool:
        return not self.lost

    async def start(self, model: ModelVersion, folder: Path, limits: Limits, variant: Variant | None = None) -> Replica:
        if self.lost:
            raise StartFailed("The environment is not built.")
        fake = FakeReplica(self._folder / f"{next(self._numbers)}.sock", self.handler, self.welcome)
        chosen = variant or model.variant
        loaded = chosen.name if chosen else VariantName.ORIGINAL
        fake.replica = structs.replace(fake.replica, model_id=model.model_id, target=self.name, variant=loaded)
        fake.conversion = self.conversion
        await fake.start()
        self.fakes[fake.replica.id] = fake
        self.states[fake.replica.id] = ReplicaState(running=True)
        self.events.append("start")
        return fake.replica

    async def state(self, replica: Replica) -> ReplicaState:
        return self.states.get(replica.id, ReplicaState(running=False, detail="gone"))

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        self.events.append("stop")
        self.states.pop(replica.id, None)
        fake = self.fakes.pop(replica.id, None)
        if fake is not None:
            await fake.die()

    async def logs(
        self, replica: Replica, folder: Path, tail: int, follow: bool, after: str = ""
    ) -> AsyncIterator[LogLine]:
        yield LogLine("ValueError: the last thing it said", "1")

    async def remove(self, model: ModelVersion, environment_in_use: bool) -> None:
        self.events.append(f"remove, environment {'kept' if environment_in_use else 'too'}")

    async def images(self) -> tuple[StoredImage, ...]:
        return tuple(self.stored)

    async def remove_image(self, id: str) -> bool:
        kept = [image for image in self.stored if image.id != id]
        was_there, self.stored = len(kept) < len(self.stored), kept
        return was_there

    def describe_removal(self, model: ModelVersion, replicas: Sequence[Replica]) -> list[str]:
        return [f"process {replica.id}" for replica in replicas]

    async def remove_variant(self, model: ModelVersion, variant: Variant, environment_in_use: bool) -> None:
        self.events.append(f"remove {variant.name}, environment {'kept' if environment_in_use else 'too'}")

    async def replicas(self) -> tuple[Replica, ...]:
        return tuple(fake.replica for fake in self.fakes.values())
