"""Chaos at the edge of a version's replicas, and what a canary makes of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from app.core.chaos import Chaos, ChaosKind
from app.core.model import Deployment
from app.core.route_table import route_table
from app.dispatch.request import Prediction
from model_container.contract import frames
from model_container.contract.frames import Answer, Request
from tests.fakes import FakeReplica
from tests.unit.dispatch.batch_lab import call, dispatching, live, outcomes
from tests.unit.dispatch.canary_lab import CANDIDATE, STABLE, canary_route, under_canary

ERRORS = Chaos(ChaosKind.ERRORS, 30)
LATE = Chaos(ChaosKind.LATENCY, 30, latency_ms=300)
HANGING = Chaos(ChaosKind.HANG, 30)
NONSENSE = Chaos(ChaosKind.NONSENSE, 30)


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[tuple[FakeReplica, Deployment]]:
    fake = FakeReplica(folder / "only.sock")
    await fake.start()
    try:
        yield fake, live(fake)
    finally:
        await fake.die()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [(ERRORS, "status 500"), (LATE, "overdue"), (HANGING, "overdue"), (NONSENSE, "not finite")],
    ids=lambda one: one.kind if isinstance(one, Chaos) else "",
)
async def test_a_candidate_that_is_broken_on_purpose_costs_no_caller_an_answer(
    tmp_path: Path, fault: Chaos, cause: str
) -> None:
    async with under_canary(tmp_path, route=canary_route(overdue_seconds=0.1)) as versions:
        versions.dispatcher.set_chaos(CANDIDATE, fault)
        answers = await outcomes(versions.dispatcher, 5)
        evidence = versions.dispatcher.evidence("iris")
        versions.dispatcher.set_chaos(CANDIDATE, None)
        after = await versions.dispatcher.predict(call(7))
    assert [(answer.status, answer.headers["x-model-id"]) for answer in answers if isinstance(answer, Prediction)] == [
        (200, STABLE)
    ] * 5
    assert evidence.bad == 5
    assert {incident.cause for incident in evidence.incidents} == {cause}
    assert after.headers["x-model-id"] == CANDIDATE


async def test_callers_of_a_version_without_a_canary_get_its_errors(tmp_path: Path) -> None:
    async with replica(tmp_path) as (fake, deployment), dispatching(deployment) as dispatcher:
        dispatcher.set_chaos("m1", Chaos(ChaosKind.ERRORS, 30, share=0.5))
        counts = Counter([(await dispatcher.predict(call(n))).status for n in range(100)])
        assert set(counts) == {200, 500}
        assert fake.batches, "the model itself was asked"


async def test_a_version_that_hangs_answers_when_it_is_over(tmp_path: Path) -> None:
    async with replica(tmp_path) as (_, deployment), dispatching(deployment) as dispatcher:
        dispatcher.set_chaos("m1", HANGING)
        asked = asyncio.create_task(dispatcher.predict(call(1)))
        done, _ = await asyncio.wait([asked], timeout=0.2)
        assert not done
        dispatcher.set_chaos("m1", None)
        assert (await asked).status == 200


async def test_latency_comes_on_top(tmp_path: Path) -> None:
    async with replica(tmp_path) as (_, deployment), dispatching(deployment) as dispatcher:
        dispatcher.set_chaos("m1", LATE)
        began = monotonic()
        assert (await dispatcher.predict(call(1))).status == 200
        assert monotonic() - began >= 0.3


async def test_a_replica_that_comes_later_is_broken_too(tmp_path: Path) -> None:
    async with replica(tmp_path) as (_, deployment), dispatching(deployment) as dispatcher:
        dispatcher.set_chaos("m1", ERRORS)
        await dispatcher.publish(route_table([]))
        await dispatcher.publish(route_table([deployment]))
        assert (await dispatcher.predict(call(1))).status == 500
        dispatcher.set_chaos("m1", None)
        assert (await dispatcher.predict(call(1))).status == 200


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (Answer(b'{"predictions":[0,"setosa",true]}'), {"predictions": [None, "nonsense", None]}),
        (
            Answer(b'{"outputs":[{"name":"y","shape":[1],"datatype":"FP64","data":[0.5]}]}', 200, frames.FORM_V2),
            {"outputs": [{"name": "y", "shape": [1], "datatype": "FP64", "data": [None]}]},
        ),
        (Answer(b'{"code":"bad_input","detail":"No."}', 400, frames.FORM_PROBLEM), {"code": "bad_input"}),
    ],
)
async def test_nonsense_keeps_the_form_of_an_answer(tmp_path: Path, answer: Answer, seen: dict[str, object]) -> None:
    async def handler(requests: list[Request]) -> list[Answer]:
        return [answer] * len(requests)

    async with replica(tmp_path) as (fake, deployment), dispatching(deployment) as dispatcher:
        fake.handler = handler
        dispatcher.set_chaos("m1", NONSENSE)
        body = json.loads((await dispatcher.predict(call(1))).body)
        assert {name: body[name] for name in seen} == seen
