"""A candidate that fails: callers get the stable version's answer, and the evidence says who was at fault."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from app.core.model import Status
from app.core.rollout.records import Evidence
from app.core.route_table import Outlook, route_table
from app.dispatch.request import Prediction
from app.errors import Conflict, Overloaded, PrismError, ReplicaTimeout, ReplicaUnavailable
from model_container.contract import frames
from model_container.contract.frames import Answer, Request
from tests.fakes import Handler, echo, eventually
from tests.unit.dispatch.batch_lab import FLOW, call, outcomes
from tests.unit.dispatch.canary_lab import (
    CANDIDATE,
    STABLE,
    answering,
    canary_route,
    hanging,
    lost,
    problem,
    under_canary,
)
from tests.unit.dispatch.doors import connected, gateway, request
from tests.unit.dispatch.replicas_lab import Held

INVALID = Answer(b'{"code":"invalid_input","detail":"A column is missing."}', 422, frames.FORM_PROBLEM)
BAD_CANDIDATES: dict[str, tuple[Handler, str]] = {
    "answers 500": (answering(problem(500)), "status 500"),
    "refuses valid input": (answering(INVALID), "status 422"),
    "loses its connection": (lost, "lost"),
    "hangs": (hanging, "overdue"),
    "answers no JSON": (answering(Answer(b"{nan}")), "invalid"),
    "answers no object": (answering(Answer(b"[1]")), "invalid"),
    "answers an invalid problem": (answering(Answer(b"", 500, frames.FORM_PROBLEM)), "invalid"),
    "answers with values that are not finite": (answering(Answer(b'{"predictions":[null]}')), "not finite"),
}


def from_stable(answer: Prediction | BaseException, body: object) -> None:
    assert isinstance(answer, Prediction), answer
    assert answer.status == 200
    assert answer.headers["x-model-id"] == STABLE
    assert answer.headers["x-model-version"] == "1.0.0"
    assert answer.headers["x-prism-rescued"] == "2.0.0"
    assert json.loads(answer.body) == {"model": "iris", "version": "1.0.0", "model_id": STABLE, "predictions": [body]}


@pytest.mark.parametrize("fault", BAD_CANDIDATES)
async def test_the_stable_version_answers_what_the_candidate_cannot(tmp_path: Path, fault: str) -> None:
    handler, cause = BAD_CANDIDATES[fault]
    async with under_canary(tmp_path, handler, route=canary_route(overdue_seconds=0.2)) as versions:
        answers = await outcomes(versions.dispatcher, 5)
        evidence = versions.dispatcher.evidence("iris")
    for number, answer in enumerate(answers):
        from_stable(answer, number)
        assert versions.dispatcher.evidence_by_version() == {CANDIDATE: evidence}
        assert versions.dispatcher.tallies[STABLE].statuses == {200: 5}
    assert (evidence.answers, evidence.bad, evidence.both_failed, evidence.rescued) == (5, 5, 0, 5)
    assert {incident.cause for incident in evidence.incidents} <= {cause, "lost"}
    assert cause in {incident.cause for incident in evidence.incidents}


async def test_a_healthy_candidate_answers_itself(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=canary_route(0.25)) as versions:
        answers = await outcomes(versions.dispatcher, 32)
        evidence = versions.dispatcher.evidence("iris")
    asked = Counter(answer.headers["x-model-id"] for answer in answers if isinstance(answer, Prediction))
    assert asked[STABLE] + asked[CANDIDATE] == 32
    assert abs(asked[CANDIDATE] - 8) <= 2
    assert evidence == Evidence(answers=asked[CANDIDATE])
    assert not any("x-prism-rescued" in answer.headers for answer in answers if isinstance(answer, Prediction))


async def test_what_both_versions_refuse_is_no_evidence_and_the_caller_gets_the_stable_versions_answer(
    tmp_path: Path,
) -> None:
    async with under_canary(tmp_path, answering(problem(500)), answering(INVALID)) as versions:
        answer = await versions.dispatcher.predict(call(1))
        evidence = versions.dispatcher.evidence("iris")
    assert answer.status == 422
    assert answer.headers["x-model-id"] == STABLE
    assert evidence == Evidence(both_failed=1)


async def test_the_candidates_answer_is_given_where_the_stable_version_gave_none(tmp_path: Path) -> None:
    full = structs.replace(FLOW, queue_length=1, max_batch_size=1, window_seconds=20)
    async with under_canary(tmp_path, answering(INVALID), hanging, flow=full, route=canary_route(0.0)) as versions:
        stable = asyncio.gather(*(versions.dispatcher.predict(call(n)) for n in range(3)), return_exceptions=True)
        await eventually(lambda: versions.dispatcher.lanes[0].queued == 1)
        versions.dispatcher.shift_traffic("iris", canary_route(1.0))
        answer = await versions.dispatcher.predict(call(1))
        assert (answer.status, answer.headers["x-model-id"]) == (422, CANDIDATE)
        assert versions.dispatcher.evidence("iris") == Evidence(both_failed=1)
        stable.cancel()


async def test_a_candidate_without_a_replica_is_rescued_and_bad(tmp_path: Path) -> None:
    async with under_canary(tmp_path) as versions:
        await versions.candidate.die()
        await eventually(lambda: not versions.dispatcher.lanes[1].replicas[0].connected)
        for number in range(3):
            from_stable(await versions.dispatcher.predict(call(number)), number)
        evidence = versions.dispatcher.evidence("iris")
    assert (evidence.answers, evidence.bad) == (3, 3)
    assert {incident.cause for incident in evidence.incidents} == {"lost"}


async def test_what_no_version_takes_is_refused_with_the_stable_versions_reason(tmp_path: Path) -> None:
    async with under_canary(tmp_path) as versions:
        for fake in (versions.candidate, versions.stable):
            await fake.die()
        await eventually(lambda: not any(lane.replicas[0].connected for lane in versions.dispatcher.lanes))
        with pytest.raises(ReplicaUnavailable):
            await versions.dispatcher.predict(call(1))
        assert versions.dispatcher.evidence("iris") == Evidence(both_failed=1)
        assert versions.dispatcher.refusals == {"replica_unavailable": 1}


async def test_an_answer_that_is_late_but_before_the_stable_versions_is_given_and_slow(tmp_path: Path) -> None:
    candidate, stable = Held(), Held()
    async with under_canary(tmp_path, candidate, stable, route=canary_route(overdue_seconds=0.05)) as versions:
        asked = asyncio.create_task(versions.dispatcher.predict(call(1)))
        await eventually(lambda: bool(versions.stable.batches))
        candidate.release.set()
        answer = await asked
        evidence = versions.dispatcher.evidence("iris")
        stable.release.set()
    assert answer.headers["x-model-id"] == CANDIDATE
    assert evidence == Evidence(answers=1, slow=1)


async def test_a_candidate_is_not_blamed_for_a_host_on_which_the_stable_version_is_as_slow(tmp_path: Path) -> None:
    stable = Held()
    async with under_canary(tmp_path, hanging, stable, route=canary_route(overdue_seconds=0.05)) as versions:
        asked = asyncio.create_task(versions.dispatcher.predict(call(1)))
        await eventually(lambda: bool(versions.stable.batches))
        await asyncio.sleep(0.1)
        stable.release.set()
        answer = await asked
        evidence = versions.dispatcher.evidence("iris")
    assert answer.headers["x-model-id"] == STABLE
    assert evidence == Evidence(both_failed=1, rescued=1)


async def test_without_a_bound_a_hanging_candidate_is_rescued_within_the_deadline(tmp_path: Path) -> None:
    flow = structs.replace(FLOW, timeout_seconds=2.0)
    async with under_canary(tmp_path, hanging, flow=flow) as versions:
        from_stable(await versions.dispatcher.predict(call(1)), 1)
        assert versions.dispatcher.evidence("iris").bad == 1


async def test_a_rescue_has_no_more_time_than_the_request_had(tmp_path: Path) -> None:
    flow = structs.replace(FLOW, timeout_seconds=2.0)
    async with under_canary(tmp_path, hanging, hanging, flow=flow) as versions:
        first = asyncio.create_task(versions.dispatcher.predict(call(1)))  # rescued after half of its time
        await asyncio.sleep(0.5)
        second = asyncio.create_task(versions.dispatcher.predict(call(2, STABLE)))
        done, _ = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        assert done == {first}
        assert isinstance(first.exception(), ReplicaTimeout)
        await asyncio.wait((second,))
        assert isinstance(second.exception(), ReplicaTimeout)
        assert versions.dispatcher.evidence("iris") == Evidence(both_failed=1)


async def test_the_bound_follows_the_stable_versions_latencies(tmp_path: Path) -> None:
    async with under_canary(tmp_path, hanging, route=canary_route(0.0)) as versions:
        await versions.publish(canary_route(0.0))
        versions.dispatcher.tallies[STABLE].latency.observe([0.009] * 1000)
        versions.dispatcher.shift_traffic("iris", canary_route(1.0))
        async with asyncio.timeout(8.0):  # the timeout's share would be 10 s
            from_stable(await versions.dispatcher.predict(call(1)), 1)


async def test_what_was_sent_before_there_was_a_bound_delays_nothing_that_was_sent_after(tmp_path: Path) -> None:
    async with under_canary(tmp_path, hanging) as versions:
        async with asyncio.timeout(8.0):  # without a bound it would be 10 s
            before = asyncio.create_task(versions.dispatcher.predict(call(1)))
            await eventually(lambda: bool(versions.candidate.batches))
            versions.dispatcher.tallies[STABLE].latency.observe([0.009] * 1000)
            await asyncio.sleep(0.2)
            from_stable(await versions.dispatcher.predict(call(2)), 2)
            from_stable(await before, 1)
        assert versions.dispatcher.evidence("iris").bad == 2


async def test_a_version_that_yields_such_values_itself_does_not_make_the_candidate_bad(tmp_path: Path) -> None:
    handler = answering(Answer(b'{"predictions":[null]}'))
    async with under_canary(tmp_path, handler, handler) as versions:
        for number in range(5):
            answer = await versions.dispatcher.predict(call(number))
            assert answer.headers["x-model-id"] == CANDIDATE
        assert versions.dispatcher.evidence("iris") == Evidence(answers=5)
        assert sum(versions.stable.batches) == 1, "once known, it is not asked again"


@pytest.mark.parametrize(
    ("handler", "status", "expected"),
    [
        (answering(problem(500)), 500, Evidence(answers=1, bad=1)),
        (answering(INVALID), 422, Evidence()),
    ],
)
async def test_without_rescue_the_candidates_failure_is_the_callers_and_only_its_own_fault_counts(
    tmp_path: Path, handler: Handler, status: int, expected: Evidence
) -> None:
    async with under_canary(tmp_path, handler, route=canary_route(rescue=False)) as versions:
        answer = await versions.dispatcher.predict(call(1))
        evidence = versions.dispatcher.evidence("iris")
        assert not versions.stable.batches
    assert (answer.status, answer.headers["x-model-id"]) == (status, CANDIDATE)
    assert structs.replace(evidence, incidents=()) == expected


async def test_without_rescue_an_overdue_answer_is_bad_once_and_still_given(tmp_path: Path) -> None:
    held = Held()
    route = canary_route(rescue=False, overdue_seconds=0.05)
    async with under_canary(tmp_path, held, route=route) as versions:
        asked = asyncio.create_task(versions.dispatcher.predict(call(1)))
        await eventually(lambda: versions.dispatcher.evidence("iris").bad == 1)
        held.release.set()
        assert (await asked).headers["x-model-id"] == CANDIDATE
        evidence = versions.dispatcher.evidence("iris")
    assert (evidence.answers, evidence.bad) == (1, 1)


@pytest.mark.parametrize("rescue", [True, False])
async def test_a_caller_that_leaves_is_no_evidence(tmp_path: Path, rescue: bool) -> None:
    async with under_canary(tmp_path, hanging, route=canary_route(overdue_seconds=0.1, rescue=rescue)) as versions:
        asked = asyncio.create_task(versions.dispatcher.predict(call(1)))
        await eventually(lambda: bool(versions.candidate.batches))
        asked.cancel()
        await asyncio.sleep(0.3)
        assert versions.dispatcher.evidence("iris") == Evidence()
        assert not versions.stable.batches


async def test_evidence_grows_over_tables_and_begins_anew_with_another_rollout(tmp_path: Path) -> None:
    async with under_canary(tmp_path) as versions:
        await outcomes(versions.dispatcher, 3)
        await versions.publish(canary_route(0.5))
        versions.dispatcher.shift_traffic("iris", canary_route(1.0))
        await outcomes(versions.dispatcher, 2)
        assert versions.dispatcher.evidence("iris").answers == 5
        await versions.publish(None)
        assert versions.dispatcher.evidence("iris").answers == 5, "a table without it may only be passing"
        await versions.publish(canary_route(rollout_id="r2"))
        assert versions.dispatcher.evidence("iris") == Evidence()
    assert versions.dispatcher.evidence("unknown") == Evidence()


@pytest.mark.parametrize("handler", [answering(problem(500)), lost, hanging, echo])
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["roll back", "promote"])
async def test_a_rollback_or_promotion_with_requests_under_way_loses_none(
    tmp_path: Path, handler: Handler, share: float
) -> None:
    release = asyncio.Event()

    async def late(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await handler(requests)

    async with under_canary(tmp_path, late, route=canary_route(0.5, overdue_seconds=0.5)) as versions:
        before = asyncio.gather(*(versions.dispatcher.predict(call(n)) for n in range(16)))
        await eventually(lambda: bool(versions.candidate.batches))
        versions.dispatcher.shift_traffic("iris", canary_route(share, overdue_seconds=0.5))
        release.set()
        answers = [*await before, *await asyncio.gather(*(versions.dispatcher.predict(call(n)) for n in range(16)))]
    assert {answer.status for answer in answers} == {200}


async def test_a_candidate_that_leaves_the_table_with_requests_in_hand_costs_no_caller_an_answer(
    tmp_path: Path,
) -> None:
    async with under_canary(tmp_path, hanging, route=canary_route(overdue_seconds=5.0)) as versions:
        asked = asyncio.gather(*(versions.dispatcher.predict(call(n)) for n in range(4)))
        await eventually(lambda: bool(versions.candidate.batches))
        await versions.dispatcher.publish(route_table(versions.deployments[:1]))
        await versions.dispatcher.drained(versions.candidate.replica, 0.1)
        for number, answer in enumerate(await asked):
            from_stable(answer, number)


def mixed(seed: int) -> Handler:
    """A candidate that has every fault, by the body of the request."""

    async def handler(requests: list[Request]) -> list[Answer]:
        number = json.loads(requests[0].body)
        kind = (number * 7 + seed) % 9
        if kind == 0:
            raise ConnectionResetError
        if kind == 1:
            await asyncio.sleep(0.15)
        if kind == 2:
            return [problem(500)] * len(requests)
        if kind == 3:
            return [INVALID] * len(requests)
        if kind == 4:
            return [Answer(b"\x00{")] * len(requests)
        return await echo(requests)

    return handler


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.3, 1.0])
async def test_whatever_the_candidate_does_each_caller_gets_a_good_answer_and_the_counts_add_up(
    tmp_path: Path, seed: int, share: float
) -> None:
    flow = structs.replace(FLOW, max_batch_size=4, queue_length=500)
    route = canary_route(share, overdue_seconds=0.1)
    async with under_canary(tmp_path, mixed(seed), route=route, flow=flow) as versions:
        answers: list[Any] = []
        for begin in range(0, 150, 50):
            answers += await asyncio.gather(*(versions.dispatcher.predict(call(n)) for n in range(begin, begin + 50)))
        evidence = versions.dispatcher.evidence("iris")
    for number, answer in enumerate(answers):
        assert answer.status == 200, answer
        assert json.loads(answer.body)["predictions"] == [number]
    rescued = [answer for answer in answers if "x-prism-rescued" in answer.headers]
    own = [answer for answer in answers if answer.headers["x-model-id"] == CANDIDATE]
    assert evidence.rescued == len(rescued)
    assert evidence.answers - evidence.bad == len(own)
    assert evidence.bad + evidence.both_failed == len(rescued)
    assert abs(len(rescued) + len(own) - share * 150) <= 3


async def test_a_full_queue_of_the_candidate_is_the_stable_versions_to_answer(tmp_path: Path) -> None:
    flow = structs.replace(FLOW, queue_length=2, max_batch_size=1)
    route = canary_route(overdue_seconds=2.0)
    async with under_canary(tmp_path, hanging, flow=flow, route=route) as versions:
        waiting = [asyncio.create_task(versions.dispatcher.predict(call(n))) for n in range(8)]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert not any(isinstance(answer, PrismError) and not isinstance(answer, Overloaded) for answer in done)
        evidence = versions.dispatcher.evidence("iris")
    assert any(isinstance(answer, Prediction) for answer in done)
    assert evidence.bad + evidence.both_failed == 8


async def test_while_the_stable_versions_replica_comes_back_it_still_rescues(tmp_path: Path) -> None:
    async with under_canary(tmp_path, answering(problem(500)), route=canary_route(0.05)) as versions:
        stable, candidate = versions.deployments
        down = structs.replace(stable, replicas=(), status=Status.UNHEALTHY)
        splits = {"iris": canary_route(0.05)}
        await versions.dispatcher.publish(route_table([down, candidate], {STABLE: Outlook(coming=True)}, splits))
        waiting = [asyncio.create_task(versions.dispatcher.predict(call(n))) for n in range(5)]
        assert not (await asyncio.wait(waiting, timeout=0.2))[0], "each waits for the stable version"
        await versions.publish(splits["iris"])
        for number, answer in enumerate(await asyncio.gather(*waiting)):
            from_stable(answer, number)
        assert versions.dispatcher.evidence("iris").bad == 5


async def test_a_canary_whose_candidate_is_down_leaves_a_plain_route(tmp_path: Path) -> None:
    async with under_canary(tmp_path, route=canary_route(0.5)) as versions:
        await versions.dispatcher.publish(route_table(versions.deployments[:1], splits={"iris": canary_route(0.5)}))
        answers = await outcomes(versions.dispatcher, 10)
        assert {answer.headers["x-model-id"] for answer in answers if isinstance(answer, Prediction)} == {STABLE}
        with pytest.raises(Conflict):
            versions.dispatcher.shift_traffic("iris", canary_route(0.5))


@pytest.mark.parametrize("door", ["protocol", "asgi"])
@pytest.mark.parametrize(
    ("path", "body"), [("/models/iris/predict", b"1"), ("/v2/models/iris/infer", b'{"inputs":[]}')]
)
async def test_both_doors_rescue_and_name_the_version_that_could_not_answer(
    tmp_path: Path, door: str, path: str, body: bytes
) -> None:
    async with gateway(tmp_path) as here, under_canary(tmp_path, answering(problem(500))) as versions:
        await here.dispatcher.publish(route_table(versions.deployments, splits={"iris": canary_route()}))
        async with connected(here.port(door)) as client:
            answers = []
            for _ in range(3):
                await client.send(request(body, path=path))
                answers.append(await client.answer())
        incidents = here.dispatcher.evidence("iris").incidents
    for answer in answers:
        assert answer.status == 200
        assert answer.headers["x-model-version"] == "1.0.0"
        assert answer.headers["x-prism-rescued"] == "2.0.0"
    assert [incident.request_id for incident in incidents] == [answer.headers["x-request-id"] for answer in answers]


@pytest.mark.parametrize("door", ["protocol", "asgi"])
async def test_a_client_that_disconnects_is_no_evidence(tmp_path: Path, door: str) -> None:
    route = canary_route(overdue_seconds=0.2)
    async with gateway(tmp_path) as here, under_canary(tmp_path, hanging) as versions:
        await here.dispatcher.publish(route_table(versions.deployments, splits={"iris": route}))
        async with connected(here.port(door)) as client:
            await client.send(request(b"1"))
            await eventually(lambda: bool(versions.candidate.batches))
        await asyncio.sleep(0.5)
        assert here.dispatcher.evidence("iris") == Evidence()


@pytest.mark.parametrize("handler", [answering(problem(500)), lost])
async def test_with_side_effects_no_request_reaches_a_model_twice(tmp_path: Path, handler: Handler) -> None:
    async with under_canary(tmp_path, handler) as versions:
        versions.side_effects = True
        await versions.publish(canary_route(1.0, boost=True, overdue_seconds=0.1))
        (outcome,) = await outcomes(versions.dispatcher, 1)
        versions.dispatcher.shift_traffic("iris", canary_route(0.0, boost=True))
        assert isinstance(await versions.dispatcher.predict(call(2)), Prediction)
        await asyncio.sleep(0.1)
        assert sum(versions.candidate.batches) == 1
        assert sum(versions.stable.batches) == 1
    assert outcome.status >= 500  # type: ignore[union-attr]
    assert handler is not lost or "not retried" in str(outcome)


async def test_a_request_with_side_effects_is_not_retried_when_its_replica_is_lost(tmp_path: Path) -> None:
    async with under_canary(tmp_path, lost) as versions:
        versions.side_effects = True
        await versions.publish(None)
        with pytest.raises(ReplicaUnavailable, match="not retried"):
            await versions.dispatcher.predict(call(1, CANDIDATE))
        await eventually(lambda: versions.dispatcher.lanes[1].replicas[0].connected)
        await asyncio.sleep(0.05)
        assert sum(versions.candidate.batches) == 1
