"""The breaker of a replica at work: what opens it, what it says meanwhile, how it closes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from app.core import breaker
from app.core.breaker import FAILURES_TO_ASK, State
from app.dispatch.request import Prediction
from app.errors import ReplicaUnavailable
from model_container.contract.frames import FORM_PROBLEM, Answer, Request
from tests.fakes import FakeReplica, Handler, echo, eventually, fake_replica
from tests.unit.dispatch.batch_lab import FLOW, call, dispatching, live, outcomes


async def fail(requests: list[Request]) -> list[Answer]:
    return [Answer(b'{"code":"model_error","detail":"It failed."}', 500, FORM_PROBLEM) for _ in requests]


async def refuse(requests: list[Request]) -> list[Answer]:
    return [Answer(b'{"code":"prediction_failed","detail":"No."}', 422, FORM_PROBLEM) for _ in requests]


async def fail_the_first(requests: list[Request]) -> list[Answer]:
    return [*await fail(requests[:1]), *await echo(requests[1:])]


SAMPLE = b'"the sample"'


def fails(*bodies: bytes) -> Handler:
    """Fails requests of these bodies, all without any, and answers the others."""

    async def handler(requests: list[Request]) -> list[Answer]:
        return [(await (fail if not bodies or one.body in bodies else echo)([one]))[0] for one in requests]

    return handler


async def test_failing_requests_open_the_circuit_only_if_the_sample_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 0.3)
    async with (
        fake_replica(tmp_path / "s", fails()) as fake,
        dispatching(live(fake), sample=SAMPLE) as dispatcher,
    ):
        for _ in range(FAILURES_TO_ASK):
            assert (await dispatcher.predict(call(1))).status == 500
        (lane,) = dispatcher.lanes
        await eventually(lambda: lane.circuit is not State.CLOSED)
        with pytest.raises(ReplicaUnavailable, match="no longer answers its own sample") as refused:
            await dispatcher.predict(call(1))
        assert refused.value.headers["Retry-After"] == "1"
        asked = len(fake.batches)
        await eventually(lambda: len(fake.batches) > asked + 1)
        assert lane.circuit is not State.CLOSED, "the trial failed, and no request of a caller was one"
        fake.handler = echo
        await eventually(lambda: lane.circuit is State.CLOSED)
        assert (await dispatcher.predict(call(1))).status == 200


async def test_one_caller_with_failing_requests_does_not_affect_others(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def picky(requests: list[Request]) -> list[Answer]:
        bodies.extend(one.body for one in requests)
        return await fails(b"666")(requests)

    async with fake_replica(tmp_path / "s", picky) as fake, dispatching(live(fake), sample=SAMPLE) as dispatcher:
        for _ in range(4 * FAILURES_TO_ASK):
            assert (await dispatcher.predict(call(666))).status == 500
        assert (await dispatcher.predict(call(1))).status == 200
        await eventually(lambda: SAMPLE in bodies)
        assert dispatcher.lanes[0].circuit is State.CLOSED


async def test_without_a_sample_failures_never_open_the_circuit(tmp_path: Path) -> None:
    async with fake_replica(tmp_path / "s", fails()) as fake, dispatching(live(fake)) as dispatcher:
        for _ in range(3 * FAILURES_TO_ASK):
            assert (await dispatcher.predict(call(1))).status == 500
        assert dispatcher.lanes[0].circuit is State.CLOSED


async def test_waiting_requests_fail_at_once_when_the_circuit_opens(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def fail_later(requests: list[Request]) -> list[Answer]:
        await release.wait()
        if requests[0].body != SAMPLE:
            release.clear()  # what waits behind has to go on waiting
            asyncio.get_running_loop().call_later(0.1, release.set)
        return await fail(requests)

    narrow = structs.replace(FLOW, max_batch_size=1, queue_length=64)
    async with (
        fake_replica(tmp_path / "s", fail_later) as fake,
        dispatching(live(fake), flow=narrow, sample=SAMPLE) as dispatcher,
    ):
        waiting = asyncio.create_task(outcomes(dispatcher, 20))
        await eventually(lambda: fake.batches == [1])
        release.set()
        answers = await waiting
    failed = [one for one in answers if isinstance(one, Prediction)]
    refused = [one for one in answers if isinstance(one, ReplicaUnavailable)]
    assert len(failed) + len(refused) == 20
    assert {one.status for one in failed} == {500}
    assert refused


@pytest.mark.parametrize("handler", [refuse, fail_the_first])
async def test_invalid_requests_never_open_the_circuit(tmp_path: Path, handler: object) -> None:
    async def served(requests: list[Request]) -> list[Answer]:
        return await handler(requests)  # type: ignore[operator,no-any-return]

    async with fake_replica(tmp_path / "s", served) as fake, dispatching(live(fake)) as dispatcher:
        for _ in range(FAILURES_TO_ASK + 2):
            await outcomes(dispatcher, 3)
        assert dispatcher.lanes[0].circuit is State.CLOSED
        assert isinstance(fake, FakeReplica)
