"""Copies of requests for a candidate that idles and for a shadow: no caller waits for one, and they are bounded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec import structs

from app.core.rollout.records import Evidence
from app.core.route import CopyBounds
from app.core.route_table import route_table
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Prediction
from model_container.contract.frames import Answer, Request
from tests.fakes import Handler, echo, eventually
from tests.unit.dispatch.batch_lab import FLOW, call, outcomes
from tests.unit.dispatch.canary_lab import (
    STABLE,
    answering,
    canary_route,
    hanging,
    lost,
    problem,
    shadow_route,
    under_canary,
)
from tests.unit.dispatch.doors import ask, gateway, request

BOOSTED = structs.replace(canary_route(0.0, boost=True, overdue_seconds=5.0), copies=CopyBounds(per_second=100_000.0))
"""All requests are answered by the stable version, and the candidate gets copies as fast as it can take them."""


async def mirrored(dispatcher: Dispatcher, at_least: int) -> Evidence:
    """Send requests until so many copies are evidence. Every request must be answered by the stable version."""
    for number in range(100_000):
        answer = await dispatcher.predict(call(number))
        assert (answer.status, answer.headers["x-model-id"]) == (200, STABLE)
        assert "x-prism-rescued" not in answer.headers
        if dispatcher.evidence("iris").mirrored >= at_least:
            break
    return dispatcher.evidence("iris")


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (answering(problem(500)), "status 500"),
        (answering(problem(422)), "status 422"),
        (lost, "lost"),
        (answering(Answer(b"nonsense")), "invalid"),
        (answering(Answer(b'{"predictions":[null]}')), "not finite"),
    ],
)
async def test_a_bad_candidate_is_found_by_copies_before_it_has_a_single_caller(
    tmp_path: Path, handler: Handler, cause: str
) -> None:
    async with under_canary(tmp_path, handler, route=BOOSTED) as versions:
        evidence = await mirrored(versions.dispatcher, 3)
    assert evidence.bad == evidence.answers == evidence.mirrored >= 3
    assert evidence.rescued == 0
    assert cause in {incident.cause for incident in evidence.incidents}


async def test_a_healthy_candidates_answers_to_copies_are_evidence(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=BOOSTED) as versions:
        evidence = await mirrored(versions.dispatcher, 5)
    assert evidence.answers == evidence.mirrored >= 5
    assert evidence.bad == 0


async def test_a_copy_that_takes_too_long_is_bad_once(tmp_path: Path) -> None:
    route = structs.replace(canary_route(0.0, boost=True, overdue_seconds=0.1), copies=CopyBounds(per_second=1000.0))
    async with under_canary(tmp_path, hanging, route=route) as versions:
        await versions.dispatcher.predict(call(1))
        await eventually(lambda: versions.dispatcher.evidence("iris").bad == 1)
        await outcomes(versions.dispatcher, 20)
        await asyncio.sleep(0.3)
        evidence = versions.dispatcher.evidence("iris")
        assert len(versions.candidate.batches) == 1, "it gets no second copy while it works on the first"
    assert (evidence.answers, evidence.bad, evidence.mirrored) == (1, 1, 1)
    assert evidence.incidents[0].cause == "overdue"


async def test_what_the_stable_version_cannot_answer_is_not_copied(tmp_path: Path) -> None:
    async with under_canary(tmp_path, echo, answering(problem(500)), route=BOOSTED) as versions:
        await outcomes(versions.dispatcher, 10)
        await asyncio.sleep(0.05)
        assert not versions.candidate.batches
        assert versions.dispatcher.evidence("iris") == Evidence()


async def test_copies_leave_the_candidate_most_of_its_time_for_callers(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    ends: list[float] = []
    begins: list[float] = []

    async def slow(requests: list[Request]) -> list[Answer]:
        begins.append(loop.time())
        await asyncio.sleep(0.05)
        ends.append(loop.time())
        return await echo(requests)

    async with under_canary(tmp_path, slow, route=BOOSTED) as versions:
        await mirrored(versions.dispatcher, 3)
    for end, begin in zip(ends, begins[1:], strict=False):
        assert begin - end >= 0.05 * 8


async def test_a_caller_behind_a_copy_has_the_copys_time_more(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await echo(requests)

    bounds = CopyBounds(per_second=1000.0)
    boosted = structs.replace(canary_route(0.0, boost=True, overdue_seconds=3.0), copies=bounds)
    async with under_canary(tmp_path, held, route=boosted) as versions:
        await versions.dispatcher.predict(call(1))
        await eventually(lambda: bool(versions.candidate.batches))
        versions.dispatcher.shift_traffic("iris", structs.replace(canary_route(1.0, boost=True, overdue_seconds=3.0)))
        waiting = asyncio.create_task(versions.dispatcher.predict(call(2)))
        await asyncio.sleep(3.3)
        assert not versions.dispatcher.evidence("iris").rescued
        release.set()
        assert (await waiting).headers["x-model-id"] != STABLE


async def test_a_copy_that_hangs_since_before_there_was_a_bound_holds_up_no_caller(tmp_path: Path) -> None:
    boosted = structs.replace(canary_route(0.0, boost=True), copies=CopyBounds(per_second=1000.0))
    async with under_canary(tmp_path, hanging, route=boosted) as versions:
        async with asyncio.timeout(8.0):  # without a bound it would be 10 s, or 20 s behind the copy
            await versions.dispatcher.predict(call(1))
            await eventually(lambda: bool(versions.candidate.batches))
            versions.dispatcher.tallies[STABLE].latency.observe([0.009] * 1000)
            versions.dispatcher.shift_traffic("iris", canary_route(1.0, boost=True))
            answer = await versions.dispatcher.predict(call(2))
            assert answer.headers["x-prism-rescued"] == "2.0.0"


async def test_a_shadow_gets_a_copy_of_each_request_and_the_pairs_wait_to_be_compared(tmp_path: Path) -> None:
    handler = answering(Answer(b'{"predictions":["other"]}'))
    async with gateway(tmp_path) as here, under_canary(tmp_path, handler) as versions:
        await here.dispatcher.publish(route_table(versions.deployments, splits={"iris": shadow_route()}))
        answers = [await ask(here.port(door), request(b"7")) for door in ("protocol", "asgi") * 5]
        await eventually(lambda: here.dispatcher.evidence("iris").mirrored == 10)
        pairs = here.dispatcher.take_shadow_pairs("iris")
        assert here.dispatcher.take_shadow_pairs("iris") == []
    assert [answer.echoed for answer in answers] == [7] * 10
    assert {answer.headers["x-model-id"] for answer in answers} == {STABLE}
    assert [pair.request_id for pair in pairs] == [answer.headers["x-request-id"] for answer in answers]
    for pair in pairs:
        assert (pair.production.status, pair.production.body) == (200, b'{"predictions":[7]}')
        assert (pair.shadow.status, pair.shadow.body) == (200, b'{"predictions":["other"]}')
        assert pair.production.seconds > 0
        assert pair.shadow.seconds > 0
    assert here.dispatcher.take_shadow_pairs("unknown") == []


async def test_production_is_asked_twice_for_one_pair_in_fifty(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=shadow_route()) as versions:
        for number in range(100):
            await versions.dispatcher.predict(call(number))
        await eventually(lambda: versions.dispatcher.evidence("iris").mirrored == 100)
        pairs = versions.dispatcher.take_shadow_pairs("iris")
        assert sum(versions.stable.batches) == 102
    twice = [pair for pair in pairs if pair.again is not None]
    assert len(twice) == 2
    assert all(pair.again is not None and pair.again.body == pair.production.body for pair in twice)


@pytest.mark.parametrize(
    ("handler", "status"), [(answering(problem(500)), 500), (lost, 500)], ids=["answers 500", "is lost"]
)
async def test_a_shadow_that_fails_costs_no_caller_anything(tmp_path: Path, handler: Handler, status: int) -> None:
    flow = structs.replace(FLOW, timeout_seconds=2.0)
    async with under_canary(tmp_path, handler, route=shadow_route(), flow=flow) as versions:
        answers = await outcomes(versions.dispatcher, 5)
        await eventually(lambda: versions.dispatcher.evidence("iris").mirrored == 5)
        pairs = versions.dispatcher.take_shadow_pairs("iris")
    assert all(isinstance(answer, Prediction) and answer.status == 200 for answer in answers)
    assert all(pair.shadow.status >= status for pair in pairs)


async def test_a_stalled_shadow_holds_a_bounded_number_of_copies_and_the_rest_is_dropped_and_counted(
    tmp_path: Path,
) -> None:
    async with under_canary(tmp_path, hanging, route=shadow_route(in_flight=4)) as versions:
        for begin in range(0, 100, 10):
            answers = await asyncio.gather(*(versions.dispatcher.predict(call(begin + n)) for n in range(10)))
            assert {answer.status for answer in answers} == {200}
            await asyncio.sleep(0)
        await eventually(lambda: versions.dispatcher.evidence("iris").dropped == 96)
        assert versions.dispatcher.lanes[1].pending == 4


async def test_copies_are_bounded_by_bytes(tmp_path: Path) -> None:
    body = "x" * 1000
    async with under_canary(tmp_path, hanging, route=shadow_route(held_bytes=10_000)) as versions:
        for _ in range(20):
            assert (await versions.dispatcher.predict(call(body))).status == 200
        await eventually(
            lambda: versions.dispatcher.evidence("iris").dropped == 16
        )  # of a request and its answer, each 1 KB
        assert versions.dispatcher.lanes[1].pending == 4


async def test_pairs_that_nobody_takes_are_bounded_and_dropped(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=shadow_route(pairs=3)) as versions:
        for number in range(10):
            await versions.dispatcher.predict(call(number))
        await eventually(lambda: versions.dispatcher.evidence("iris").mirrored == 10)
        assert versions.dispatcher.evidence("iris").dropped == 7
        pairs = versions.dispatcher.take_shadow_pairs("iris")
        assert [json.loads(pair.production.body)["predictions"] for pair in pairs] == [[0], [1], [2]]
        await versions.dispatcher.predict(call(10))
        await eventually(lambda: len(versions.dispatcher.take_shadow_pairs("iris")) == 1)


async def test_pairs_hold_bytes_until_they_are_taken(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=shadow_route(held_bytes=10_000)) as versions:
        for _round in range(2):
            for _ in range(20):
                await versions.dispatcher.predict(call("x" * 1000))
                await eventually(lambda: versions.dispatcher.lanes[1].pending == 0)
            evidence = versions.dispatcher.evidence("iris")
            assert evidence.dropped > 0
            assert 1 <= len(versions.dispatcher.take_shadow_pairs("iris")) <= 5, "each holds two answers of 1 KB"


async def test_copies_are_bounded_by_rate(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=shadow_route(per_second=0.01, in_flight=2)) as versions:
        for number in range(20):
            await versions.dispatcher.predict(call(number))
        await eventually(lambda: versions.dispatcher.evidence("iris").mirrored == 3)
        assert versions.dispatcher.evidence("iris").dropped == 17


async def test_pairs_go_with_the_rollout_and_stay_while_the_shadow_is_down(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=shadow_route()) as versions:
        await versions.dispatcher.predict(call(1))
        await eventually(lambda: versions.dispatcher.evidence("iris").mirrored == 1)
        down = route_table(versions.deployments[:1], splits={"iris": shadow_route()})
        await versions.dispatcher.publish(down)
        assert (await versions.dispatcher.predict(call(1))).status == 200
        await versions.publish(shadow_route())
        assert len(versions.dispatcher.take_shadow_pairs("iris")) == 1
        await versions.dispatcher.predict(call(1))
        await eventually(lambda: versions.dispatcher.evidence("iris").mirrored == 2)
        await versions.publish(None)
        assert versions.dispatcher.take_shadow_pairs("iris") == []


async def test_a_shadow_of_a_model_with_side_effects_gets_no_copies(tmp_path: Path) -> None:
    async with under_canary(tmp_path) as versions:
        versions.side_effects = True
        await versions.publish(shadow_route())
        await outcomes(versions.dispatcher, 5)
        await asyncio.sleep(0.05)
        assert not versions.candidate.batches
