"""The split of the requests for one name over its versions, and changes of the weights while requests come."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from app.core.model import Deployment, Status
from app.core.route import Arm, Route
from app.core.route_table import Outlook, route_table
from app.dispatch.pipeline import Dispatcher
from app.dispatch.route import Split
from app.errors import Conflict
from tests.fakes import FakeReplica, fake_replica
from tests.unit.dispatch.batch_lab import FLOW, call, dispatching, live
from tests.unit.dispatch.doors import ask, connected, gateway, request
from tests.unit.dispatch.replicas_lab import Held
from tests.unit.dispatch.route_lab import HangingReplica


def route(*weights: float, mirror: str | None = None) -> Route:
    return Route(tuple(Arm(f"m{number}", weight) for number, weight in enumerate(weights, 1)), mirror)


@asynccontextmanager
async def versions(folder: Path, count: int = 2) -> AsyncIterator[list[Deployment]]:
    """Live versions of `iris`, m1 (1.1.0), m2 (1.2.0)…, each with a replica; the last one is the newest."""
    fakes = [FakeReplica(folder / f"{number}.sock") for number in range(1, count + 1)]
    for fake in fakes:
        await fake.start()
    try:
        yield [
            structs.replace(live(fake, model_id=f"m{number}"), version=f"1.{number}.0", live_at=f"2026-{number}")
            for number, fake in enumerate(fakes, 1)
        ]
    finally:
        for fake in fakes:
            await fake.die()


async def answering(dispatcher: Dispatcher, count: int) -> Counter[str]:
    """Send requests for `iris`; return how many of them each version answered."""
    answers = []
    for begin in range(0, count, 20):
        answers += await asyncio.gather(*(dispatcher.predict(call(n)) for n in range(begin, min(begin + 20, count))))
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.headers["x-model-id"] for answer in answers)


@pytest.mark.parametrize(
    "weights", [(0.95, 0.05), (0.5, 0.5), (0.999, 0.001), (0.3, 0.7), (0.618, 0.382), (0.6, 0.3, 0.1), (0.25,) * 4]
)
@pytest.mark.parametrize("place", [0.0, 0.37])
async def test_ten_thousand_requests_are_split_within_three_of_the_exact_shares(
    tmp_path: Path, weights: Sequence[float], place: float
) -> None:
    async with versions(tmp_path, len(weights)) as live_versions, dispatching(*live_versions) as dispatcher:
        lanes = dispatcher.lanes
    split = Split(list(zip(lanes, weights, strict=True)), place)
    counts = Counter(split.next() for _ in range(10_000))
    for lane, weight in zip(lanes, weights, strict=True):
        assert abs(counts[lane] - weight * 10_000) <= 3


async def test_a_split_goes_on_where_the_one_before_it_stopped(tmp_path: Path) -> None:
    """A table is published whenever a replica comes or goes; a small share must not begin anew each time."""
    split = {"iris": route(0.9, 0.1)}
    async with versions(tmp_path) as both, dispatching() as dispatcher:
        answered: Counter[str] = Counter()
        for _ in range(50):
            await dispatcher.publish(route_table(both, splits=split))
            answered += await answering(dispatcher, 2)
    assert 7 <= answered["m2"] <= 13


async def test_without_a_split_all_requests_go_to_the_newest_version(tmp_path: Path) -> None:
    async with versions(tmp_path) as both, dispatching(*both) as dispatcher:
        assert await answering(dispatcher, 20) == {"m2": 20}


async def test_a_name_is_split_and_every_other_reference_leads_to_its_version(tmp_path: Path) -> None:
    async with versions(tmp_path) as both, dispatching() as dispatcher:
        await dispatcher.publish(route_table(both, splits={"iris": route(0.75, 0.25)}))
        counts = await answering(dispatcher, 200)
        assert abs(counts["m2"] - 50) <= 3
        assert counts["m1"] + counts["m2"] == 200
        for ref, model_id in {"iris@1.1.0": "m1", "m1": "m1", "iris@1.2.0": "m2", "m2": "m2"}.items():
            answers = await asyncio.gather(*(dispatcher.predict(call(n, ref)) for n in range(8)))
            assert {answer.headers["x-model-id"] for answer in answers} == {model_id}


async def test_a_version_without_a_share_and_a_mirror_get_no_request_of_the_name(tmp_path: Path) -> None:
    async with versions(tmp_path, 3) as three, dispatching() as dispatcher:
        await dispatcher.publish(route_table(three, splits={"iris": route(1.0, 0.0, mirror="m3")}))
        assert await answering(dispatcher, 50) == {"m1": 50}
        assert (await dispatcher.predict(call(1, "iris@1.3.0"))).headers["x-model-id"] == "m3"


async def test_an_arm_that_is_down_costs_no_request(tmp_path: Path) -> None:
    async with versions(tmp_path) as both, dispatching() as dispatcher:
        await dispatcher.publish(route_table(both, splits={"iris": route(0.5, 0.5)}))
        down = structs.replace(both[1], replicas=(), status=Status.UNHEALTHY)
        await dispatcher.publish(route_table([both[0], down], splits={"iris": route(0.5, 0.5)}))
        assert await answering(dispatcher, 20) == {"m1": 20}
        await dispatcher.publish(route_table(both, splits={"iris": route(0.5, 0.5)}))
        counts = await answering(dispatcher, 100)
        assert abs(counts["m1"] - 50) <= 3


async def test_a_change_of_weights_under_load_fails_no_request(tmp_path: Path) -> None:
    flow = structs.replace(FLOW, queue_length=1000)
    async with versions(tmp_path) as both, dispatching(flow=flow) as dispatcher:
        await dispatcher.publish(route_table(both, splits={"iris": route(1.0, 0.0)}))
        answers: list[asyncio.Task[str]] = []

        async def version_of(number: int) -> str:
            answer = await dispatcher.predict(call(number))
            assert json.loads(answer.body)["predictions"] == [number]
            return answer.headers["x-model-id"]

        for step in range(100):
            dispatcher.shift_traffic("iris", route(1 - step / 100, step / 100))
            answers += [asyncio.create_task(version_of(step * 10 + n)) for n in range(10)]
            await asyncio.sleep(0)
        counts = Counter(await asyncio.gather(*answers))
    assert counts["m1"] + counts["m2"] == 1000
    assert abs(counts["m2"] - sum(step / 10 for step in range(100))) <= 10


async def test_a_shift_is_done_when_the_call_returns_and_moves_no_request_under_way(tmp_path: Path) -> None:
    held = Held()
    async with fake_replica(tmp_path / "a", held) as old, fake_replica(tmp_path / "b") as new:
        both = [live(old), structs.replace(live(new, model_id="m2"), version="1.1.0")]
        async with dispatching() as dispatcher:
            await dispatcher.publish(route_table(both, splits={"iris": route(1.0, 0.0)}))
            before = dispatcher.begin(call(1))
            dispatcher.shift_traffic("iris", route(0.0, 1.0))
            after = dispatcher.begin(call(2))
            assert before.lane.endpoint.model_id == "m1"
            assert after.lane.endpoint.model_id == "m2"
            assert (await after.answer()).status == 200
            held.release.set()
            assert (await before.answer()).status == 200


async def test_traffic_cannot_be_shifted_to_a_version_that_is_not_connected(tmp_path: Path) -> None:
    async with versions(tmp_path) as both, dispatching() as dispatcher:
        await dispatcher.publish(route_table(both[:1], splits={"iris": route(1.0, 0.0)}))
        with pytest.raises(Conflict, match="No replica of `m2` is connected"):
            dispatcher.shift_traffic("iris", route(0.5, 0.5))
        assert await answering(dispatcher, 10) == {"m1": 10}
        dispatcher.shift_traffic("iris", route(1.0, 0.0))  # a share of nothing needs no connection


async def test_traffic_can_be_shifted_back_to_a_version_whose_replica_is_coming(tmp_path: Path) -> None:
    async with versions(tmp_path) as both, dispatching() as dispatcher:
        down = structs.replace(both[0], replicas=(), status=Status.UNHEALTHY)
        coming = {"m1": Outlook(coming=True)}
        await dispatcher.publish(route_table([down, both[1]], coming, {"iris": route(0.5, 0.5)}))
        dispatcher.shift_traffic("iris", route(1.0, 0.0))
        waiting = dispatcher.begin(call(1))
        await dispatcher.publish(route_table(both, splits={"iris": route(1.0, 0.0)}))
        assert (await waiting.answer()).status == 200
        assert waiting.lane.endpoint.model_id == "m1"


async def test_a_shift_waits_for_no_connect_and_is_not_undone_by_the_table_that_is_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.dispatch.replica.CONNECT_TIMEOUT_SECONDS", 60.0)
    hanging = HangingReplica(tmp_path / "h")
    await hanging.start()
    async with versions(tmp_path) as both, dispatching() as dispatcher:
        await dispatcher.publish(route_table(both, splits={"iris": route(0.5, 0.5)}))
        other = live(hanging, "other", "o1")
        table = route_table([*both, other], splits={"iris": route(0.5, 0.5)})
        publishing = asyncio.create_task(dispatcher.publish(table))
        await hanging.asked.wait()
        dispatcher.shift_traffic("iris", route(1.0, 0.0))
        assert await answering(dispatcher, 20) == {"m1": 20}
        assert not publishing.done()
        hanging.may_welcome.set()
        await publishing
        assert await answering(dispatcher, 20) == {"m1": 20}
        assert (await dispatcher.predict(call(1, "other"))).headers["x-model-id"] == "o1"
        await dispatcher.publish(table)
        assert (await answering(dispatcher, 20))["m2"] > 0, "the next table decides again"
    await hanging.die()


async def test_streams_are_split_as_requests_are(tmp_path: Path) -> None:
    async with versions(tmp_path) as both, dispatching(flow=structs.replace(FLOW, max_streams=100)) as dispatcher:
        await dispatcher.publish(route_table(both, splits={"iris": route(0.75, 0.25)}))
        streams = [dispatcher.stream(call(n)) for n in range(100)]
        counts = Counter(stream.lane.endpoint.model_id for stream in streams)
        for stream in streams:
            stream.close()
    assert abs(counts["m2"] - 25) <= 3


@pytest.mark.parametrize(
    ("path", "body"), [("/models/iris/predict", b"1"), ("/v2/models/iris/infer", b'{"inputs":[]}')]
)
async def test_a_request_whose_head_is_remembered_follows_the_route_as_it_is_now(
    tmp_path: Path, path: str, body: bytes
) -> None:
    async with gateway(tmp_path) as here, versions(tmp_path) as both:
        await here.dispatcher.publish(route_table(both, splits={"iris": route(0.5, 0.5)}))
        same_head = request(body, path=path)

        async def counted(port: int) -> Counter[str]:
            async with connected(port) as client:
                for _ in range(40):
                    await client.send(same_head)
                return Counter(answer.headers["x-model-id"] for answer in await client.answers(40))

        for door in ("protocol", "asgi"):
            counts = await counted(here.port(door))
            assert abs(counts["m1"] - 20) <= 3, (door, counts)
        assert here.door.heads
        here.dispatcher.shift_traffic("iris", route(0.0, 1.0))
        for door in ("protocol", "asgi"):
            assert await counted(here.port(door)) == {"m2": 40}
        assert (await ask(here.port("protocol"), request(body, path=path.replace("iris", "m1")))).headers[
            "x-model-id"
        ] == "m1"
