"""Requests that find no replica: they wait for one that is coming, within their time, and only for one that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from msgspec import structs

from app.access.rate_limit import RateLimiter
from app.core.model import Deployment, Status
from app.core.route_table import Loss, Outlook, RouteTable, route_table
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.errors import Conflict, Overloaded, ReplicaTimeout, ReplicaUnavailable
from model_container.contract import frames
from tests.fakes import FakeReplica, eventually, fake_replica
from tests.unit.dispatch.batch_lab import FLOW, call, live, outcomes

NONE_LEFT = Deployment(
    "m1", "iris", "1.0.0", Status.UNHEALTHY, True, live_at="2026", error={"title": "The model did not load"}
)


def table(deployment: Deployment, *, is_one_coming: bool) -> RouteTable:
    return route_table([deployment], {"m1": Outlook(coming=True)} if is_one_coming else {})


@asynccontextmanager
async def gateway(first: RouteTable, flow: QueueSettings = FLOW) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher with a monitor that takes reports of lost replicas and has not decided anything yet."""
    dispatcher = Dispatcher(RateLimiter(0, 60), flow, lambda *_: True)
    await dispatcher.publish(first)
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


@pytest.mark.parametrize("ref", ["iris", "iris@1.0.0", "m1"])
async def test_waiting_requests_are_answered_by_the_next_replica(tmp_path: Path, ref: str) -> None:
    async with gateway(table(NONE_LEFT, is_one_coming=True)) as dispatcher, fake_replica(tmp_path / "s") as fake:
        asked = [asyncio.create_task(dispatcher.predict(call(number, ref))) for number in range(8)]
        await eventually(lambda: dispatcher.lanes[0].queued == 8)
        await dispatcher.publish(table(live(fake), is_one_coming=False))
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 8


async def test_a_stream_waits_for_the_next_replica_too(tmp_path: Path) -> None:
    async with gateway(table(NONE_LEFT, is_one_coming=True)) as dispatcher:
        streaming = FakeReplica(tmp_path / "s", welcome={"protocol": frames.PROTOCOL, "streams": True})
        await streaming.start()
        stream = dispatcher.stream(Call("iris", b"1", "here"))
        first = asyncio.create_task(stream.first())
        await asyncio.sleep(0)
        await dispatcher.publish(table(live(streaming), is_one_coming=False))
        await eventually(lambda: stream.client is not None)
        await streaming.die()
        await dispatcher.publish(table(NONE_LEFT, is_one_coming=False))
        await dispatcher.drained(streaming.replica, 0)
        assert await first == []
        assert isinstance(stream.error, ReplicaUnavailable)
        stream.close()


async def test_waiting_requests_fail_with_the_reason_if_no_replica_is_coming() -> None:
    async with gateway(table(NONE_LEFT, is_one_coming=True)) as dispatcher:
        waiting = asyncio.create_task(outcomes(dispatcher, 4))
        stream = dispatcher.stream(Call("iris", b"1", "here"))
        first = asyncio.create_task(stream.first())
        await eventually(lambda: dispatcher.lanes[0].queued == 4)
        await dispatcher.publish(table(NONE_LEFT, is_one_coming=False))
        assert await first == []
        for error in (*await waiting, stream.error):
            assert isinstance(error, ReplicaUnavailable)
            assert "did not load" in error.detail.lower()
        with pytest.raises(ReplicaUnavailable, match="did not load"):
            dispatcher.begin(call(1))
        stream.close()


async def test_stopping_a_model_answers_its_waiting_requests() -> None:
    async with gateway(table(NONE_LEFT, is_one_coming=True)) as dispatcher:
        waiting = asyncio.create_task(dispatcher.predict(call(1)))
        await eventually(lambda: dispatcher.lanes[0].queued == 1)
        stopped = structs.replace(NONE_LEFT, status=Status.STOPPED, wanted=False, error=None)
        await dispatcher.publish(table(stopped, is_one_coming=True))
        with pytest.raises(Conflict, match="stopped"):
            await waiting


async def test_waiting_is_bounded_by_the_timeout_and_the_queue_length() -> None:
    narrow = structs.replace(FLOW, queue_length=4, timeout_seconds=0.3)
    async with gateway(table(NONE_LEFT, is_one_coming=True), narrow) as dispatcher:
        stream = dispatcher.stream(Call("iris", b"1", "here"))
        results = await outcomes(dispatcher, 6)
        assert [type(one) for one in results].count(Overloaded) == 2
        assert [type(one) for one in results].count(ReplicaTimeout) == 4
        assert await stream.first() == []
        assert isinstance(stream.error, ReplicaTimeout)
        stream.close()


async def test_requests_wait_until_the_monitor_says_whether_a_replica_is_coming(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def dies(requests: list[frames.Request]) -> list[frames.Answer]:
        await held.wait()
        await lost.die()
        return []

    async with fake_replica(tmp_path / "a", dies) as lost, fake_replica(tmp_path / "b") as next_one:
        async with gateway(table(live(lost), is_one_coming=False)) as dispatcher:
            had = asyncio.create_task(dispatcher.predict(call(1)))
            await eventually(lambda: lost.batches == [1])
            held.set()
            await eventually(lambda: not dispatcher.lanes[0].replicas[0].connected)
            late = asyncio.create_task(dispatcher.predict(call(2)))
            await eventually(lambda: dispatcher.lanes[0].queued >= 1)
            loss = Loss(lost.replica.id, "killed by signal 9", by_itself=False)
            without = route_table([NONE_LEFT], {"m1": Outlook(coming=True, losses=(loss,))})
            await dispatcher.publish(without)
            await dispatcher.drained(lost.replica, 0)
            began = monotonic()
            await dispatcher.publish(table(live(next_one), is_one_coming=False))
            assert [answer.status for answer in await asyncio.gather(had, late)] == [200, 200]
            assert monotonic() - began < FLOW.timeout_seconds / 2, "none waited for its time to be over"


async def test_without_a_monitor_no_request_waits(tmp_path: Path) -> None:
    async with fake_replica(tmp_path / "s") as lost:
        dispatcher = Dispatcher(RateLimiter(0, 60), FLOW, lambda *_: False)
        await dispatcher.publish(table(live(lost), is_one_coming=False))
        await lost.die()
        await eventually(lambda: not dispatcher.lanes[0].replicas[0].connected)
        with pytest.raises(ReplicaUnavailable):
            dispatcher.begin(call(1))
        await dispatcher.close()


def test_the_route_table_says_which_models_expect_a_replica() -> None:
    coming = table(NONE_LEFT, is_one_coming=True)
    assert coming.live == {}, "it is not ready"
    assert set(coming.awaited) == set(coming.absent) == {"iris", "iris@1.0.0", "m1"}
    for not_wanted in (
        structs.replace(NONE_LEFT, wanted=False),
        structs.replace(NONE_LEFT, status=Status.FAILED),
        structs.replace(NONE_LEFT, status=Status.STARTING),
    ):
        assert table(not_wanted, is_one_coming=True).awaited == {}
