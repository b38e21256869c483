"""The replicas of a model that serves may change: what waits, and what is under way at others, notices nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from app.access.rate_limit import RateLimiter
from app.core import breaker
from app.core.breaker import FAILURES_TO_ASK, State
from app.core.model import Deployment
from app.core.route_table import RouteTable, route_table
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Prediction
from model_container.contract.frames import FORM_PROBLEM, Answer, Request
from tests.fakes import FakeReplica, eventually, fake_replica
from tests.unit.dispatch.batch_lab import FLOW, call, dispatching, live, outcomes
from tests.unit.dispatch.replicas_lab import Held


def together(*fakes: FakeReplica) -> Deployment:
    return structs.replace(live(fakes[0]), replicas=tuple(one.replica for one in fakes))


def table(*fakes: FakeReplica) -> RouteTable:
    return route_table([together(*fakes)])


async def test_dropping_a_replica_does_not_affect_requests_on_another(tmp_path: Path) -> None:
    held = Held()
    async with fake_replica(tmp_path / "a", held) as stays, fake_replica(tmp_path / "b", held) as goes:
        async with dispatching(together(stays, goes)) as dispatcher:
            first = asyncio.create_task(dispatcher.predict(call(1)))
            await eventually(lambda: bool(stays.batches or goes.batches))
            second = asyncio.create_task(dispatcher.predict(call(2)))
            await eventually(lambda: stays.batches == [1] and goes.batches == [1])
            await dispatcher.publish(table(stays))
            await goes.die()
            await dispatcher.drained(goes.replica, 0)
            held.release.set()
            answers = await asyncio.gather(first, second)
    assert [answer.status for answer in answers] == [200, 200], "the lost one was tried again at the other"
    assert stays.batches == [1, 1]


async def test_queued_requests_go_to_a_new_replica(tmp_path: Path) -> None:
    held = Held()
    patient = structs.replace(FLOW, window_seconds=60.0, max_batch_size=64)
    async with fake_replica(tmp_path / "a", held) as old, fake_replica(tmp_path / "b") as new:
        async with dispatching(live(old), flow=patient) as dispatcher:
            taken = asyncio.create_task(dispatcher.predict(call(1)))
            await eventually(lambda: old.batches == [1])
            waits = asyncio.create_task(dispatcher.predict(call(2)))
            await eventually(lambda: dispatcher.lanes[0].queued == 1)
            await dispatcher.publish(table(old, new))
            assert (await waits).status == 200
            assert new.batches == [1]
            held.release.set()
            assert (await taken).status == 200


async def test_a_removed_replica_finishes_its_requests_and_gets_no_more(tmp_path: Path) -> None:
    held = Held()
    async with fake_replica(tmp_path / "a", held) as goes, fake_replica(tmp_path / "b") as stays:
        async with dispatching(live(goes)) as dispatcher:
            taken = asyncio.create_task(dispatcher.predict(call(1)))
            await eventually(lambda: goes.batches == [1])
            await dispatcher.publish(table(goes, stays))
            await dispatcher.publish(table(stays))
            draining = asyncio.create_task(dispatcher.drained(goes.replica, 20))
            assert [one.status for one in await outcomes(dispatcher, 8) if isinstance(one, Prediction)] == [200] * 8
            assert not draining.done()
            held.release.set()
            assert await draining is True
            assert (await taken).status == 200
    assert goes.batches == [1]


async def test_a_model_that_is_stopped_drains_all_its_replicas(tmp_path: Path) -> None:
    held = Held()
    async with fake_replica(tmp_path / "a", held) as first, fake_replica(tmp_path / "b", held) as second:
        async with dispatching(together(first, second)) as dispatcher:
            asked = [asyncio.create_task(dispatcher.predict(call(number))) for number in range(2)]
            await eventually(lambda: bool(first.batches or second.batches))
            await dispatcher.publish(RouteTable())
            draining = [asyncio.create_task(dispatcher.drained(one.replica, 20)) for one in (first, second)]
            held.release.set()
            assert await asyncio.gather(*draining) == [True, True]
            assert [answer.status for answer in await asyncio.gather(*asked)] == [200, 200]


async def test_the_circuit_of_one_replica_stays_as_it_is_while_others_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 60.0)

    async def fail(requests: list[Request]) -> list[Answer]:
        return [Answer(b'{"code":"model_error","detail":"It failed."}', 500, FORM_PROBLEM) for _ in requests]

    async with fake_replica(tmp_path / "a", fail) as sick, fake_replica(tmp_path / "b") as well:
        async with dispatching(live(sick), sample=b"1") as dispatcher:
            for _ in range(FAILURES_TO_ASK):
                assert (await dispatcher.predict(call(1))).status == 500
            await eventually(lambda: dispatcher.lanes[0].circuit is State.OPEN)
            assert dispatcher.circuits("m1") == {sick.replica.id: State.OPEN}
            await dispatcher.publish(table(sick, well))
            assert dispatcher.circuits("m1") == {sick.replica.id: State.OPEN, well.replica.id: State.CLOSED}
            assert (await dispatcher.predict(call(1))).status == 200
            assert dispatcher.lanes[0].circuit is State.CLOSED
    assert len(sick.batches) == FAILURES_TO_ASK + 1, "the last one was the sample"


async def test_only_the_lost_replica_is_reported_as_suspect(tmp_path: Path) -> None:
    suspected: list[str] = []
    dispatcher = Dispatcher(RateLimiter(0, 60), FLOW, lambda replica, _: suspected.append(replica.id))
    async with fake_replica(tmp_path / "a") as gone, fake_replica(tmp_path / "b") as well:
        await dispatcher.publish(table(gone, well))
        await gone.die()
        await eventually(lambda: bool(suspected))
        await dispatcher.close()
    assert set(suspected) == {gone.replica.id}


async def test_a_new_replica_gets_its_share_and_not_all_requests(tmp_path: Path) -> None:
    async with fake_replica(tmp_path / "a") as first, fake_replica(tmp_path / "b") as second:
        async with dispatching(live(first)) as dispatcher:
            for number in range(10):
                await dispatcher.predict(call(number))
            await dispatcher.publish(table(first, second))
            for number in range(10):
                await dispatcher.predict(call(number))
    assert (len(first.batches), len(second.batches)) == (15, 5)
