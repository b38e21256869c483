"""The life of a deployment, and the monitor, against a target of our own with real frames and a clock of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.access.rate_limit import RateLimiter
from app.core.environment import Lock, Requirements
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, ModelVersion, Replica, Status
from app.dispatch.connection import WIRE_LIMITS
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.errors import BuildFailed, TargetUnavailable, TooManyOpenFiles
from app.gateway import connector, flow
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.monitor import Monitor
from app.lifecycle.health.restarts import backoff_seconds
from app.lifecycle.pipeline import DeploymentPipeline
from app.lifecycle.state import DeploymentState, utc_now
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from app.runtime.target import Log, ReplicaState, Target, Targets
from app.settings import Settings
from model_container.contract.frames import FORM_PROBLEM, Answer, Request
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
        self.ledger = DeploymentState(self.store, registry)
        self.dispatcher = Dispatcher(RateLimiter(0, 60), flow(self.settings), self.suspect)
        targets: dict[str, Target] = {self.target.name: self.target}
        road = DeploymentPipeline(
            settings=self.settings,
            ledger=self.ledger,
            targets=Targets(targets, targets),
            resolve=resolve,
            connect=connector(WIRE_LIMITS),
            traffic=self.dispatcher,
            ask=read_here,
        )
        self.deployments = Deployments(self.ledger, road, connector(WIRE_LIMITS))
        self.monitor = Monitor(self.deployments, connector(WIRE_LIMITS), 10, 30, clock=lambda: self.now)

    def suspect(self, replica: Replica, reason: str) -> bool:
        return self.monitor.suspect(replica, reason)

    async def add(self, model_id: str, name: str = "iris") -> ModelVersion:
        (self.ledger.folder(model_id)).mkdir(parents=True)
        model = model_version(
            model_id=model_id,
            name=name,
            version=self.ledger.next_version(name),
            artifact=ARTIFACT,
            created_at=utc_now(),
            target="process",
            inspection=Inspection(Format.PICKLE),
        )
        await self.ledger.add(model, wanted=False, status=Status.STOPPED)
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
        return self.ledger.deployment(model_id).status


@asynccontextmanager
async def house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    built = House(folder, **settings)
    try:
        yield built
    finally:
        await built.monitor.end()
        await built.deployments.shut_down(keep_models=False)
        await built.dispatcher.close()


async def test_a_new_model_replaces_the_old_ones_only_once_it_lives(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        await home.live("b" * 12, "other")
        assert home.status("a" * 12) is Status.STOPPED
        assert home.target.events.count("stop") == 1
        assert await home.predict("other") == 200
        assert home.ledger.deployment("a" * 12).replicas == ()


async def test_side_by_side_only_the_same_name_is_replaced(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await home.live("a" * 12, "one")
        await home.live("b" * 12, "two")
        await home.live("c" * 12, "one")
        assert [home.status(each * 12) for each in "abc"] == [Status.STOPPED, Status.LIVE, Status.LIVE]


async def test_a_failed_start_leaves_the_previous_version_serving(tmp_path: Path) -> None:
    async def refuses(requests: list[Request]) -> list[Answer]:
        return [Answer(b'{"detail":"no such column"}', 422, FORM_PROBLEM) for _ in requests]

    async with house(tmp_path) as home:
        await home.live("a" * 12)
        home.target.handler = refuses
        bad = await home.add("b" * 12)
        await home.deployments.start(bad)
        after = await home.deployments.settled("b" * 12)
        assert after.status is Status.FAILED
        assert after.error is not None
        assert "no such column" in after.error["detail"]
        assert home.status("a" * 12) is Status.LIVE
        assert await home.predict("iris") == 200


async def test_a_restart_that_fails_keeps_the_replica_that_serves(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await home.live("a" * 12)

        async def broken(*_: object) -> None:
            raise BuildFailed("no room")

        home.target.start = broken  # type: ignore[method-assign, assignment]
        await home.deployments.restart(home.ledger.find("iris"))
        after = await home.deployments.settled(model.model_id)
        assert after.status is Status.LIVE
        assert after.error is not None
        assert await home.predict("iris") == 200


async def test_three_failed_checks_make_a_model_unhealthy_until_its_restart(tmp_path: Path) -> None:
    async def refuses(requests: list[Request]) -> list[Answer]:
        return [Answer(b'{"detail":"broken"}', 500, FORM_PROBLEM) for _ in requests]

    async with house(tmp_path) as home:
        await home.live("a" * 12)
        first = home.replica()
        first.handler = refuses
        for _ in range(2):
            await home.monitor.cycle()
            assert home.status("a" * 12) is Status.LIVE
        await home.monitor.cycle()
        await home.replaced(first)
        (restart,) = home.ledger.deployment("a" * 12).restarts
        assert "no longer answered" in restart.reason
        assert restart.lines == ("ValueError: the last thing it said",)
        assert await home.predict("iris") == 200


async def test_a_busy_replica_is_healthy_until_its_callers_have_timed_out(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        first = home.replica()
        first.busy_ms = 29_000
        for _ in range(4):
            await home.monitor.cycle()
        assert home.replica() is first
        first.busy_ms = 31_000
        for _ in range(3):
            await home.monitor.cycle()
        await home.replaced(first)
        assert "31 s" in home.ledger.deployment("a" * 12).restarts[0].reason


@pytest.mark.parametrize(
    "state", [ReplicaState(False, detail="killed by signal 9"), ReplicaState(True, frozen=True, detail="stopped")]
)
async def test_one_check_suffices_for_a_replica_that_is_gone_or_frozen(tmp_path: Path, state: ReplicaState) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        first = home.replica()
        home.target.states[first.replica.id] = state
        await home.monitor.cycle()
        await home.replaced(first)
        assert state.detail in home.ledger.deployment("a" * 12).restarts[0].reason


async def test_the_second_restart_waits_for_its_backoff(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        for restarts in (1, 2):
            gone = home.replica()
            home.target.states[gone.replica.id] = ReplicaState(False, detail="gone")
            await home.monitor.cycle()
            if restarts == 1:
                await home.replaced(gone)
        assert home.status("a" * 12) is Status.UNHEALTHY
        assert home.target.events.count("start") == 2
        await home.deployments.stop(home.ledger.find("iris"))
        assert home.status("a" * 12) is Status.STOPPED


def test_backoff_doubles_from_ten_seconds_to_five_minutes() -> None:
    assert [backoff_seconds(n) for n in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]


async def test_the_next_gateway_adopts_what_runs_and_restarts_nothing(tmp_path: Path) -> None:
    home = House(tmp_path)
    await home.live("a" * 12)
    await home.dispatcher.close()  # killed: nothing else is put in order
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert home.status("a" * 12) is Status.LIVE
        assert home.target.events.count("start") == 1
        assert await home.predict("iris") == 200


async def test_a_lost_registry_is_rebuilt_from_what_runs(tmp_path: Path) -> None:
    home = House(tmp_path)
    await home.live("a" * 12)
    await home.dispatcher.close()
    home.settings.registry_path.write_text("{")
    async with house_again(home):
        assert not home.registry_was_whole
        await home.deployments.resume(registry_lost=True)
        assert home.target.events.count("start") == 1
        assert await home.predict("iris") == 200


async def test_an_unknown_replica_is_stopped_and_an_incomplete_upload_removed(tmp_path: Path) -> None:
    home = House(tmp_path)
    model = await home.live("a" * 12)
    await home.ledger.update(model.model_id, wanted=False, status=Status.STOPPED, replicas=())
    await home.dispatcher.close()
    torn = home.ledger.folder("f" * 12)
    (torn / "artifact").mkdir(parents=True)
    foreign = home.ledger.folder("not ours")
    foreign.mkdir()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert home.target.fakes == {}
        assert not torn.exists()
        assert foreign.exists()


async def test_a_deployment_cut_off_by_a_kill_is_resumed(tmp_path: Path) -> None:
    home = House(tmp_path)
    model = await home.add("a" * 12)
    await home.ledger.update(model.model_id, wanted=True, status=Status.BUILDING)
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert (await home.deployments.settled(model.model_id)).status is Status.LIVE


async def test_a_deletion_removes_exactly_what_it_announces(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await home.live("a" * 12)
        model = home.ledger.find("iris")
        folder = home.ledger.folder(model.model_id)
        told = await home.deployments.removal(model)
        named, stored, replica, environment = told
        assert named == f"model iris@1.0.0 ({model.model_id})"
        assert stored.startswith(f"{folder} (")
        assert home.replica().replica.id in replica
        assert environment.startswith("environment ")
        assert await home.deployments.delete(home.ledger.find("iris")) == told
        assert not folder.exists()
        assert home.target.events[-1] == "remove, environment too"


async def test_a_deletion_does_not_announce_an_environment_that_another_model_uses(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        model = await home.live("a" * 12, "one")
        await home.live("b" * 12, "two")
        assert not any("environment" in line for line in await home.deployments.removal(home.ledger.find("one")))
        await home.deployments.delete(model)
        assert home.target.events[-1] == "remove, environment kept"


async def test_a_failure_names_the_step_that_failed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:

        async def broken(*_: object) -> None:
            raise BuildFailed("no room")

        home.target.build_environment = broken  # type: ignore[method-assign]
        model = await home.add("a" * 12)
        await home.deployments.start(model)
        error = (await home.deployments.settled(model.model_id)).error
        assert error is not None
        assert error["step"] == "building"


async def test_a_model_restarts_when_its_target_is_available_again(tmp_path: Path) -> None:
    home = House(tmp_path)
    model = await home.live("a" * 12)
    start = home.target.start

    async def away(*_: object) -> None:
        raise TargetUnavailable("No Docker engine answers.")

    home.target.start = away  # type: ignore[method-assign, assignment]
    home.target.states.clear()
    await home.replica().die()
    home.target.fakes.clear()
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert (await home.deployments.settled(model.model_id)).status is Status.STOPPED
        await home.dispatcher.close()
        home.target.start = start  # type: ignore[method-assign]
        home.open()
        await home.deployments.resume(registry_lost=False)
        assert (await home.deployments.settled(model.model_id)).status is Status.LIVE


async def test_delete_removes_the_environment_only_with_its_last_user(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        one, two = await home.live("a" * 12, "one"), await home.live("b" * 12, "two")
        await home.deployments.delete(home.ledger.find(one.model_id))
        await home.deployments.delete(home.ledger.find(two.model_id))
        assert [event for event in home.target.events if event.startswith("remove")] == [
            "remove, environment kept",
            "remove, environment too",
        ]
        assert home.ledger.models() == ()
        assert home.ledger.deployments() == ()


async def test_stopping_in_the_middle_of_a_restart_ends_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await home.live("a" * 12)

        start = home.target.start

        async def never_loads(*arguments: Any) -> Replica:
            replica = await start(*arguments)
            home.target.fakes[replica.id].silent = True
            return replica

        home.target.start = never_loads  # type: ignore[method-assign]
        assert await home.deployments.lose(model, home.replica().replica, "lost")
        again = asyncio.create_task(home.deployments.refill(model, 1))
        await eventually(lambda: home.deployments.busy(model.model_id))
        await home.deployments.stop(home.ledger.find("iris"))
        await again
        assert home.status("a" * 12) is Status.STOPPED
        assert home.target.fakes == {}


@asynccontextmanager
async def house_again(home: House) -> AsyncIterator[None]:
    home.open()
    try:
        yield
    finally:
        await home.monitor.end()
        await home.deployments.shut_down(keep_models=False)
        await home.dispatcher.close()


async def test_a_missing_build_is_rebuilt_before_the_next_start(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.live("m1")
        before = home.replica()
        home.target.lost = True
        home.target.events.clear()
        home.target.states[before.replica.id] = ReplicaState(running=False, detail="gone")
        await home.monitor.cycle()
        await home.replaced(before)
        assert home.target.events[-3:] == ["environment", "model", "start"]
        assert "built again" in (home.ledger.folder("m1") / "build.log").read_text()


async def test_a_monitor_that_cannot_open_files_blames_no_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        await home.live("m1")
        before = home.replica()

        async def connect(*_: object) -> None:
            raise TooManyOpenFiles("Too many open files.")

        monitor = Monitor(home.deployments, connect, 10, 30, clock=lambda: home.now)  # type: ignore[arg-type]
        for _ in range(4):
            await monitor.cycle()
        assert monitor.figures["troubled"] == []
        assert home.replica() is before
        assert home.status("m1") is Status.LIVE
