"""Lost replicas: how soon others may be started and take their place, and what whoever asks meanwhile is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.model import Replica, Status
from app.errors import ReplicaUnavailable, StartFailed
from app.lifecycle.health import restarts
from app.lifecycle.health.restarts import (
    AWAITED_SECONDS,
    STEADY_SECONDS,
    URGENT_MAX_SECONDS,
    RestartState,
    backoff_seconds,
)
from app.runtime.target import ReplicaState
from tests.fakes import eventually
from tests.unit.lifecycle.house_lab import House, house
from tests.unit.lifecycle.replicas_lab import ID, numbers, replicas, with_replicas

KILLED = "killed by signal 9"
LOST_AGAIN = {"by_itself": True, "had_answered": False, "is_last": False}


@asynccontextmanager
async def kept(folder: Path, number: int) -> AsyncIterator[House]:
    """A model of so many replicas, and a monitor that is told of what is lost."""
    async with house(folder) as home:
        await with_replicas(home, number)
        home.monitor.begin()
        yield home


async def killed(home: House, replica: Replica, detail: str = KILLED) -> None:
    """It ended, and with it its connections; nobody but these tells of it."""
    home.target.states[replica.id] = ReplicaState(False, detail=detail)
    await home.target.fakes[replica.id].die()


async def all_are_back(home: House, *lost: Replica) -> None:
    number = home.state.find(ID).spec.replicas
    await eventually(lambda: len(set(replicas(home)) - set(lost)) == number and not home.monitor.restarting)


async def test_the_only_replica_is_restarted_at_once_and_no_request_fails(tmp_path: Path) -> None:
    async with kept(tmp_path, 1) as home:
        for _ in range(6):
            (replica,) = replicas(home)
            assert await home.predict("iris") == 200
            await killed(home, replica)
            assert await asyncio.gather(*(home.predict("iris") for _ in range(5))) == [200] * 5
        assert len(home.state.deployment(ID).restarts) == 6


async def test_killed_replicas_that_had_answered_are_replaced_at_once_every_time(tmp_path: Path) -> None:
    async with kept(tmp_path, 2) as home:
        for _ in range(6):
            assert await asyncio.gather(*(home.predict("iris") for _ in range(4))) == [200] * 4
            one = replicas(home)[0]
            await killed(home, one)
            await all_are_back(home, one)


async def test_a_replica_that_exits_by_itself_is_restarted_with_a_delay_while_another_serves(tmp_path: Path) -> None:
    async with kept(tmp_path, 2) as home:
        first = replicas(home)[0]
        await killed(home, first, "exited with code 3")
        await all_are_back(home, first)
        second = replicas(home)[0]
        await killed(home, second, "exited with code 3")
        await eventually(lambda: second not in replicas(home))
        assert home.target.events.count("start") == 3, "the second start of the same one is due in 10 s"
        await eventually(lambda: home.monitor.restarting == (ID,))
        assert await home.predict("iris") == 200


async def test_several_lost_replicas_are_started_concurrently(tmp_path: Path) -> None:
    async with kept(tmp_path, 3) as home:
        begin, both = home.deployments.pipeline.starter.begin, asyncio.Barrier(2)

        async def meets(*arguments: Any) -> Any:
            await asyncio.wait_for(both.wait(), 20)
            return await begin(*arguments)

        home.deployments.pipeline.starter.begin = meets  # type: ignore[method-assign]
        first, second, _ = replicas(home)
        await killed(home, first)
        await eventually(lambda: both.n_waiting == 1)
        await killed(home, second)
        await all_are_back(home, first, second)
        assert numbers(home) == [1, 2, 3]


async def test_after_three_failed_starts_requests_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("URGENT_FIRST_SECONDS", "AWAITED_SECONDS"):
        monkeypatch.setattr(restarts, name, getattr(restarts, name) / 50)
    async with kept(tmp_path, 1) as home:
        starts = 0

        async def never(*_: object) -> Replica:
            nonlocal starts
            starts += 1
            raise StartFailed("its file is gone")

        home.target.start = never  # type: ignore[method-assign, assignment]
        await killed(home, replicas(home)[0])
        waits = asyncio.create_task(home.predict("iris"))
        statuses = set()
        while not waits.done():
            await eventually(lambda: not home.deployments.busy(ID))
            statuses.add(home.status(ID))
            home.now += 0.01
            await asyncio.sleep(0.005)
        with pytest.raises(ReplicaUnavailable, match="did not load"):
            await waits
        assert starts == 3
        assert statuses == {Status.UNHEALTHY}, "it is never given up"
        with pytest.raises(ReplicaUnavailable, match="did not load"):
            await home.predict("iris")


async def test_a_replica_that_drops_its_connection_while_exiting_is_checked_again(tmp_path: Path) -> None:
    async with kept(tmp_path, 1) as home:
        (replica,) = replicas(home)
        assert await home.predict("iris") == 200
        await home.target.fakes[replica.id].die()
        answer = asyncio.create_task(home.predict("iris"))
        await asyncio.sleep(0.02)
        home.target.states[replica.id] = ReplicaState(False, detail=KILLED)
        assert await answer == 200


def lose(watch: RestartState, now: float, **changes: bool) -> float:
    """How long its next start has to wait; it is started then."""
    watch.lost(now, **{**LOST_AGAIN, **changes})
    pause = watch.restart_due - now
    watch.restarted(watch.restart_due)
    return pause


def test_one_that_ends_by_itself_again_and_again_waits_longer_each_time() -> None:
    watch, now, pauses = RestartState(), 1000.0, []
    for _ in range(4):
        pauses.append(lose(watch, now))
        now = watch.restarted_at + 1
    assert pauses == [0, 10, 20, 40]


@pytest.mark.parametrize("killed", [{"by_itself": False}, {"is_last": True}])
def test_one_that_had_answered_and_was_killed_or_is_the_last_is_always_back_at_once(killed: dict[str, bool]) -> None:
    watch, now = RestartState(), 1000.0
    for _ in range(300):
        assert lose(watch, now, had_answered=True, **killed) == 0
        assert watch.awaited
        now = watch.restarted_at + 1


def test_one_that_had_answered_for_a_minute_is_back_at_once_though_it_ended_by_itself() -> None:
    watch, now = RestartState(), 1000.0
    for _ in range(5):
        assert lose(watch, now, had_answered=True) == 0
        now = watch.restarted_at + STEADY_SECONDS


def test_the_last_one_that_never_answers_is_tried_again_soon_and_then_less_and_less_often() -> None:
    watch, now, pauses, awaited = RestartState(), 1000.0, [], []
    for _ in range(9):
        pauses.append(lose(watch, now, is_last=True))
        awaited.append(watch.awaited)
        now = watch.restarted_at + 1
    assert pauses == [0, 1, 2, 4, 8, 16, 32, URGENT_MAX_SECONDS, URGENT_MAX_SECONDS]
    assert awaited == [pause <= AWAITED_SECONDS for pause in pauses], "past that, callers are told at once"


def test_a_start_that_fails_waits_as_long_as_an_end_by_itself() -> None:
    for is_last, first in ((False, 10), (True, 1)):
        watch = RestartState()
        watch.restarted(1000.0)
        watch.start_failed(1001.0, is_last=is_last)
        assert watch.restart_due - 1001.0 == first == backoff_seconds(1, urgent=is_last)
