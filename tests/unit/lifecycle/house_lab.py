"""A gateway's lifecycle with fake targets and readers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.access.rate_limit import RateLimiter
from app.core.environment import Lock, Requirements
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, ModelVersion, Replica, Status
from app.dispatch.connection import WIRE_LIMITS
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.gateway import connector, flow
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.monitor import Monitor
from app.lifecycle.pipeline import DeploymentPipeline
from app.lifecycle.state import DeploymentState, utc_now
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from app.runtime.target import Log, Target, Targets
from app.settings import Settings
from tests.fakes import FakeReplica, FakeTarget, eventually, read_here
from tests.records import model_version

ARTIFACT = Artifact("m.pkl", "0" * 64, 1)


async def resolve(requirements: Requirements, *, log: Log, timeout_seconds: float, platform: str | None = None) -> Lock:
    return Lock("3.11", "numpy==2.0.0")


class House:
    """Everything between the API and the target, as main wires it, on a fake target."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(home=folder, heartbeat_timeout_seconds=20, drain_timeout_seconds=1, **settings)
        self.folder = folder
        self.target = FakeTarget(folder)
        self.now = 0.0
        self.open()

    def open(self) -> None:
        """A gateway's start, on what an earlier one left."""
        self.store = ModelStore(self.settings.upload_root)
        registry = ContainersFile(self.settings.registry_path)
        self.store.load()
        self.registry_was_whole = registry.load()
        self.state = DeploymentState(self.store, registry)
        self.dispatcher = Dispatcher(RateLimiter(0, 60), flow(self.settings), self.suspect)
        targets: dict[str, Target] = {self.target.name: self.target}
        pipeline = DeploymentPipeline(
            settings=self.settings,
            state=self.state,
            targets=Targets(targets, targets),
            resolve=resolve,
            connect=connector(WIRE_LIMITS),
            traffic=self.dispatcher,
            ask=read_here,
        )
        self.deployments = Deployments(self.state, pipeline, connector(WIRE_LIMITS))
        self.monitor = Monitor(self.deployments, connector(WIRE_LIMITS), 10, 30, clock=lambda: self.now)

    def suspect(self, replica: Replica, reason: str) -> bool:
        return self.monitor.suspect(replica, reason)

    async def add(self, model_id: str, name: str = "iris", **facts: Any) -> ModelVersion:
        (self.state.folder(model_id)).mkdir(parents=True)
        model = model_version(
            model_id=model_id,
            name=name,
            version=self.state.next_version(name),
            artifact=ARTIFACT,
            created_at=utc_now(),
            target="process",
            inspection=Inspection(Format.PICKLE),
            **facts,
        )
        await self.state.add(model, wanted=False, status=Status.STOPPED)
        return model

    async def live(self, model_id: str, name: str = "iris") -> ModelVersion:
        model = await self.add(model_id, name)
        await self.deployments.start(model)
        assert (await self.deployments.settled(model_id)).status is Status.LIVE
        return model

    async def predict(self, ref: str) -> int:
        return (await self.dispatcher.predict(Call(ref, b"1", "here"))).status

    def replica(self) -> FakeReplica:
        """The one that runs."""
        newest = self.target.newest
        assert newest is not None
        return newest

    async def replaced(self, before: FakeReplica) -> None:
        """Wait until another replica serves in its place."""
        await eventually(
            lambda: self.target.newest not in (None, before)
            and self.status(before.replica.model_id) is Status.LIVE
            and not self.monitor.restarting
        )

    def status(self, model_id: str) -> Status:
        return self.state.deployment(model_id).status


@asynccontextmanager
async def house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    built = House(folder, **settings)
    try:
        yield built
    finally:
        await built.monitor.end()
        await built.deployments.shut_down(keep_models=False)
        await built.dispatcher.close()


@asynccontextmanager
async def house_again(home: House) -> AsyncIterator[None]:
    home.open()
    try:
        yield
    finally:
        await home.monitor.end()
        await home.deployments.shut_down(keep_models=False)
        await home.dispatcher.close()
