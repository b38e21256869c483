"""The life of a deployment, and the monitor, against a target of our own with real frames and a clock of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.core.model import Replica, Status
from app.errors import BuildFailed, TargetUnavailable, TooManyOpenFiles
from app.lifecycle.health.monitor import Monitor
from app.lifecycle.health.restarts import backoff_seconds
from app.runtime.target import ReplicaState
from model_container.contract.frames import FORM_PROBLEM, Answer, Request
from tests.fakes import eventually
from tests.unit.lifecycle.house_lab import House, house, house_again


async def test_a_new_model_replaces_the_old_ones_only_once_it_lives(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        await home.live("b" * 12, "other")
        assert home.status("a" * 12) is Status.STOPPED
        assert home.target.events.count("stop") == 1
        assert await home.predict("other") == 200
        assert home.state.deployment("a" * 12).replicas == ()


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
        await home.deployments.restart(home.state.find("iris"))
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
        (restart,) = home.state.deployment("a" * 12).restarts
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
        assert "31 s" in home.state.deployment("a" * 12).restarts[0].reason


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
        assert state.detail in home.state.deployment("a" * 12).restarts[0].reason


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
        await home.deployments.stop(home.state.find("iris"))
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
    await home.state.update(model.model_id, wanted=False, status=Status.STOPPED, replicas=())
    await home.dispatcher.close()
    torn = home.state.folder("f" * 12)
    (torn / "artifact").mkdir(parents=True)
    foreign = home.state.folder("not ours")
    foreign.mkdir()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert home.target.fakes == {}
        assert not torn.exists()
        assert foreign.exists()


async def test_a_deployment_cut_off_by_a_kill_is_resumed(tmp_path: Path) -> None:
    home = House(tmp_path)
    model = await home.add("a" * 12)
    await home.state.update(model.model_id, wanted=True, status=Status.BUILDING)
    await home.dispatcher.close()
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert (await home.deployments.settled(model.model_id)).status is Status.LIVE


async def test_a_deletion_removes_exactly_what_it_announces(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await home.live("a" * 12)
        model = home.state.find("iris")
        folder = home.state.folder(model.model_id)
        told = await home.deployments.removal(model)
        named, stored, replica, environment = told
        assert named == f"model iris@1.0.0 ({model.model_id})"
        assert stored.startswith(f"{folder} (")
        assert home.replica().replica.id in replica
        assert environment.startswith("environment ")
        assert await home.deployments.delete(home.state.find("iris")) == told
        assert not folder.exists()
        assert home.target.events[-1] == "remove, environment too"


async def test_a_deletion_does_not_announce_an_environment_that_another_model_uses(tmp_path: Path) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        model = await home.live("a" * 12, "one")
        await home.live("b" * 12, "two")
        assert not any("environment" in line for line in await home.deployments.removal(home.state.find("one")))
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
        await home.deployments.delete(home.state.find(one.model_id))
        await home.deployments.delete(home.state.find(two.model_id))
        assert [event for event in home.target.events if event.startswith("remove")] == [
            "remove, environment kept",
            "remove, environment too",
        ]
        assert home.state.models() == ()
        assert home.state.deployments() == ()


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
        await home.deployments.stop(home.state.find("iris"))
        await again
        assert home.status("a" * 12) is Status.STOPPED
        assert home.target.fakes == {}


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
        assert "built again" in (home.state.folder("m1") / "build.log").read_text()


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
