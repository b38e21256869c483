"""A tunnel and a surface in memory, which open, break and close as a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.errors import TunnelFailed
from app.share.record import ShareRecord
from app.share.share import Share
from app.share.tunnel import NewKey, OnWorker, Worker

BROKEN = TunnelFailed("The line was cut.", reason="ended", hint="Wait.")


class FakeConnection:
    warning = ""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cut: asyncio.Future[TunnelFailed] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def broken(self) -> TunnelFailed:
        return await self.cut

    async def close(self) -> None:
        self.closed = True


@dataclass
class FakeTunnel:
    """outcomes: what the next openings lead to, a URL or an error; the last for ever. hold: keeps openings waiting."""

    kind: str = "fake"
    outcomes: list[str | Exception] = field(default_factory=lambda: ["http://far:1"])
    hold: asyncio.Event | None = None
    connections: list[FakeConnection] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    async def open(self, port: int, on_worker: OnWorker) -> FakeConnection:
        self.ports.append(port)
        await on_worker(Worker("1:2", ("fake",)))
        if self.hold is not None:
            await self.hold.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        self.connections.append(FakeConnection(outcome))
        return self.connections[-1]


class FakeSurface:
    def __init__(self) -> None:
        self.open_to_all = False
        self.shared: set[str] = set()
        self.is_open = False

    def share(self, name: str) -> None:
        self.shared.add(name)

    def unshare(self, name: str) -> None:
        self.shared.discard(name)

    async def open(self) -> int:
        self.is_open = True
        return 7000

    async def close(self) -> None:
        self.is_open = False


class NoProcesses:
    def identity(self, pid: int) -> str:
        return f"{pid}:0"

    def find(self, identifier: str) -> psutil.Process | None:
        return None


class Sharing:
    """A `Share` and all that is around it."""

    def __init__(self, folder: Path) -> None:
        self.tunnel = FakeTunnel()
        self.surface = FakeSurface()
        self.file = folder / "share.json"
        self.keys: list[str] = []
        self.delays: list[int] = []
        self.share = Share(
            self.tunnel,
            self.surface,
            ShareRecord(self.file, NoProcesses()),
            has_keys=lambda: bool(self.keys),
            create_key=self.create_key,
            delay_seconds=self.delay_seconds,
        )

    def create_key(self, name: str) -> NewKey:
        self.keys.append(name)
        return NewKey(f"key_{len(self.keys)}", name, "prism_secret")

    def delay_seconds(self, attempt: int) -> float:
        self.delays.append(attempt)
        return 0
