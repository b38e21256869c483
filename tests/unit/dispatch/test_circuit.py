"""The breaker of a replica at work: what opens it, what it says meanwhile, how it closes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from app.dispatch import breaker
from app.dispatch.breaker import FAILURES_TO_OPEN, State
from app.dispatch.pipeline import Prediction
from app.errors import ReplicaUnavailable
from model_container.frames import FORM_PROBLEM, Answer, Request
from tests.fakes import FakeReplica, echo, eventually, fake_replica
from tests.unit.dispatch.test_batch import FLOW, call, dispatching, live, outcomes


async def fail(requests: list[Request]) -> list[Answer]:
    return [Answer(b'{"code":"model_error","detail":"It failed."}', 500, FORM_PROBLEM) for _ in requests]


async def refuse(requests: list[Request]) -> list[Answer]:
    return [Answer(b'{"code":"prediction_failed","detail":"No."}', 422, FORM_PROBLEM) for _ in requests]


async def fail_the_first(requests: list[Request]) -> list[Answer]:
    return [*await fail(requests[:1]), *await echo(requests[1:])]


async def test_five_batches_without_an_answer_open_it_and_a_good_trial_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 60.0)  # until all has been looked at
    async with fake_replica(tmp_path / "s", fail) as fake, dispatching(live(fake)) as dispatcher:
        for _ in range(FAILURES_TO_OPEN):
            assert (await dispatcher.predict(call(1))).status == 500
        (lane,) = dispatcher.lanes
        assert lane.circuit is State.OPEN
        with pytest.raises(ReplicaUnavailable, match="left alone for a moment") as refused:
            await dispatcher.predict(call(1))
        assert refused.value.headers["Retry-After"] == "1"
        assert len(fake.batches) == FAILURES_TO_OPEN, "an open breaker sends nothing"
        fake.handler = echo
        monkeypatch.undo()
        await eventually(lambda: lane.circuit is State.HALF_OPEN)
        assert (await dispatcher.predict(call(1))).status == 200
        assert lane.circuit is State.CLOSED


async def test_what_waits_when_it_opens_is_the_trial(tmp_path: Path) -> None:
    release = asyncio.Event()
    circuits: list[State] = []

    async def fail_later(requests: list[Request]) -> list[Answer]:
        await release.wait()
        circuits.append(dispatcher.lanes[0].circuit)
        return await (fail if len(circuits) <= FAILURES_TO_OPEN + 1 else echo)(requests)

    patient = structs.replace(FLOW, window_seconds=60.0, queue_length=64)
    async with fake_replica(tmp_path / "s", fail_later) as fake, dispatching(live(fake), flow=patient) as dispatcher:
        waiting = asyncio.create_task(outcomes(dispatcher, 8 * (FAILURES_TO_OPEN + 2)))
        await eventually(lambda: fake.batches == [8])
        release.set()
        answers = await waiting
    statuses = [one.status for one in answers if isinstance(one, Prediction)]
    assert statuses == [500] * 48 + [200] * 8, "two batches are away at a time; what is left then is the trial"
    assert circuits[-1] is State.HALF_OPEN


@pytest.mark.parametrize("handler", [refuse, fail_the_first])
async def test_requests_that_are_at_fault_themselves_never_open_it(tmp_path: Path, handler: object) -> None:
    async def served(requests: list[Request]) -> list[Answer]:
        return await handler(requests)  # type: ignore[operator,no-any-return]

    async with fake_replica(tmp_path / "s", served) as fake, dispatching(live(fake)) as dispatcher:
        for _ in range(FAILURES_TO_OPEN + 2):
            await outcomes(dispatcher, 3)
        assert dispatcher.lanes[0].circuit is State.CLOSED
        assert isinstance(fake, FakeReplica)
