"""Joining, splitting, retrying and refusing, against a replica that speaks the real frames."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from app.access.rate_limit import RateLimiter
from app.core.model import Deployment, QueueLimits, Status
from app.core.route_table import Endpoint, route_table
from app.dispatch.limits import QueueSettings, queue_settings_for
from app.dispatch.pipeline import SWEEP_SECONDS, Dispatcher
from app.dispatch.request import Prediction
from app.errors import Conflict, NotFound, Overloaded, PrismError, ReplicaTimeout, ReplicaUnavailable
from model_container.contract.frames import Answer, Request
from tests.fakes import FakeReplica, echo, eventually, fake_replica
from tests.unit.dispatch.batch_lab import FLOW, call, dispatching, live, outcomes

HEARTBEAT = structs.replace(FLOW, heartbeat_timeout_seconds=0.6)


async def test_an_answer_has_the_name_the_version_and_the_timings(tmp_path: Path) -> None:
    async with fake_replica(tmp_path / "s") as fake, dispatching(live(fake)) as dispatcher:
        prediction = await dispatcher.predict(call([1, 2]))
    assert json.loads(prediction.body) == {
        "model": "iris",
        "version": "1.0.0",
        "model_id": "m1",
        "predictions": [[1, 2]],
    }
    assert prediction.headers["x-model-version"] == "1.0.0"
    assert 'batch;desc="1"' in prediction.headers["server-timing"]
    assert "inference;dur=1.00" in prediction.headers["server-timing"]


async def test_requests_that_arrive_during_a_batch_form_the_next_one(tmp_path: Path) -> None:
    async with fake_replica(tmp_path / "s") as fake, dispatching(live(fake)) as dispatcher:
        results = await outcomes(dispatcher, 30)
    assert [json.loads(one.body)["predictions"] for one in results if isinstance(one, Prediction)] == [
        [n] for n in range(30)
    ]
    assert sum(fake.batches) == 30
    assert fake.batches == [8, 8, 8, 6], "what came in one turn leaves together, at once"
    assert max(fake.batches) == FLOW.max_batch_size


async def test_a_second_batch_follows_after_the_window_while_the_first_is_still_away(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await echo(requests)

    async with fake_replica(tmp_path / "s", held) as fake, dispatching(live(fake)) as dispatcher:
        first = asyncio.create_task(dispatcher.predict(call(1)))
        await eventually(lambda: fake.batches == [1])
        second = asyncio.create_task(dispatcher.predict(call(2)))
        await asyncio.sleep(0.2)
        release.set()
        await asyncio.gather(first, second)
    assert fake.batches == [1, 1]


async def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await echo(requests)

    narrow = QueueSettings(1, 4, 10.0, 20.0, 20.0)
    async with fake_replica(tmp_path / "s", held) as fake, dispatching(live(fake), flow=narrow) as dispatcher:
        waiting = asyncio.create_task(outcomes(dispatcher, 10))
        await eventually(lambda: fake.batches == [1])
        release.set()
        results = await waiting
    refused = [one for one in results if isinstance(one, Overloaded)]
    assert len(refused) == 4, "two are away, four wait, four are refused"
    assert all(one.headers["Retry-After"] for one in refused)


async def test_a_request_past_its_time_gets_504(tmp_path: Path) -> None:
    async def never(requests: list[Request]) -> list[Answer]:
        await asyncio.sleep(60)
        return []

    hasty = QueueSettings(8, 32, 0.05, 0.3, 60.0)
    async with fake_replica(tmp_path / "s", never) as fake, dispatching(live(fake), flow=hasty) as dispatcher:
        with pytest.raises(ReplicaTimeout):
            await dispatcher.predict(call(1))


async def test_a_silent_replica_fails_its_requests_fast_and_is_suspected(tmp_path: Path) -> None:
    suspects: list[str] = []
    async with (
        fake_replica(tmp_path / "s") as fake,
        dispatching(live(fake), flow=HEARTBEAT, suspects=suspects) as dispatcher,
    ):
        await dispatcher.predict(call(1))
        fake.silent = True
        began = asyncio.get_running_loop().time()
        with pytest.raises(ReplicaUnavailable):
            await dispatcher.predict(call(2))
        assert asyncio.get_running_loop().time() - began < FLOW.timeout_seconds / 2
        with pytest.raises(ReplicaUnavailable):
            await dispatcher.predict(call(3))
    assert "silent" in suspects[0]


async def test_a_busy_replica_that_answers_heartbeats_is_waited_for(tmp_path: Path) -> None:
    async def slow(requests: list[Request]) -> list[Answer]:
        await asyncio.sleep(1.5)  # the work itself: longer than the heartbeat timeout
        return await echo(requests)

    async with fake_replica(tmp_path / "s", slow) as fake, dispatching(live(fake), flow=HEARTBEAT) as dispatcher:
        assert (await dispatcher.predict(call(1))).status == 200


async def test_a_stalled_server_does_not_blame_its_replicas_for_silence(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await echo(requests)

    suspects: list[str] = []
    async with (
        fake_replica(tmp_path / "s", held) as fake,
        dispatching(live(fake), flow=HEARTBEAT, suspects=suspects) as dispatcher,
    ):
        taken = asyncio.create_task(dispatcher.predict(call(1)))
        await eventually(lambda: fake.batches == [1])
        time.sleep(2 * HEARTBEAT.heartbeat_timeout_seconds)
        await asyncio.sleep(2 * SWEEP_SECONDS)
        release.set()
        assert (await taken).status == 200
    assert not suspects


async def test_a_request_lost_with_its_replica_is_tried_once_more_alone(tmp_path: Path) -> None:
    dead: list[FakeReplica] = []

    async def dies(requests: list[Request]) -> list[Answer]:
        await dead[0].die()
        return []

    async with fake_replica(tmp_path / "a", dies) as first, fake_replica(tmp_path / "b") as second:
        dead.append(first)
        both = live(first)
        table = route_table([both])
        endpoint = table.live["iris"]
        from msgspec import structs

        pair = structs.replace(endpoint, replicas=(first.replica, second.replica))
        dispatcher = Dispatcher(RateLimiter(0, 60), FLOW, lambda *_: None)
        await dispatcher.publish(structs.replace(table, live={"iris": pair}))
        try:
            results = await outcomes(dispatcher, 6)
        finally:
            await dispatcher.close()
    assert [one.status for one in results if isinstance(one, Prediction)] == [200] * 6


async def test_the_only_replica_dying_gives_503_and_never_a_hang(tmp_path: Path) -> None:
    suspects: list[str] = []
    fakes: list[FakeReplica] = []

    async def dies(requests: list[Request]) -> list[Answer]:
        await fakes[0].die()
        return []

    async with fake_replica(tmp_path / "a", dies) as fake:
        fakes.append(fake)
        async with dispatching(live(fake), suspects=suspects) as dispatcher:
            results = await asyncio.wait_for(outcomes(dispatcher, 5), 10)
            assert all(isinstance(one, ReplicaUnavailable) for one in results)
            await asyncio.sleep(1.2)  # past the time that an open breaker stays open
            with pytest.raises(ReplicaUnavailable):
                await asyncio.wait_for(dispatcher.predict(call(1)), 10)
    assert suspects


async def test_a_replica_that_comes_back_is_used_again(tmp_path: Path) -> None:
    async with fake_replica(tmp_path / "s") as fake, dispatching(live(fake)) as dispatcher:
        await dispatcher.predict(call(1))
        await fake.die()
        with pytest.raises(ReplicaUnavailable):
            await dispatcher.predict(call(2))
        await fake.start()
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            try:
                assert (await dispatcher.predict(call(3))).status == 200
                break
            except PrismError:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.02)


async def test_a_replaced_replica_finishes_its_requests_before_it_counts_as_drained(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(requests: list[Request]) -> list[Answer]:
        await release.wait()
        return await echo(requests)

    async with fake_replica(tmp_path / "a", held) as old, fake_replica(tmp_path / "b") as new:
        async with dispatching(live(old)) as dispatcher:
            taken = asyncio.create_task(dispatcher.predict(call(1)))
            await eventually(lambda: old.batches == [1])
            await dispatcher.publish(route_table([live(new)]))
            assert (await dispatcher.predict(call(2))).status == 200
            draining = asyncio.create_task(dispatcher.drained(old.replica, 20))
            await asyncio.sleep(0.05)
            assert not draining.done()
            release.set()
            assert await draining is True
            assert (await taken).status == 200
    assert old.batches == [1]
    assert new.batches == [1]


async def test_unknown_stopped_and_returning_models_are_told_apart(tmp_path: Path) -> None:
    stopped = Deployment("m2", "old", "1.0.0", Status.STOPPED, False, created_at="1")
    coming = Deployment("m3", "new", "1.0.0", Status.STARTING, True, created_at="1")
    async with fake_replica(tmp_path / "s") as fake, dispatching(live(fake), stopped, coming) as dispatcher:
        with pytest.raises(NotFound, match=r"Did you mean `iris`\?"):
            await dispatcher.predict(call(1, "irsi"))
        with pytest.raises(Conflict, match="stopped"):
            await dispatcher.predict(call(1, "old"))
        with pytest.raises(ReplicaUnavailable):
            await dispatcher.predict(call(1, "new"))
        for ref in ("iris", "iris@1.0.0", "m1"):
            assert (await dispatcher.predict(call(1, ref))).status == 200


async def test_timings_of_each_request_are_logged_in_debug_mode(tmp_path: Path) -> None:
    telling = structs.replace(FLOW, log_timings=True)
    async with fake_replica(tmp_path / "s") as fake, dispatching(live(fake), flow=telling) as dispatcher:
        with capture_logs() as logged:
            await outcomes(dispatcher, 3)
    assert [(line["event"], line["model"], line["batch"]) for line in logged] == [("predicted", "iris@1.0.0", 3)] * 3
    assert all(line["inference_ms"] == 1.0 and line["total_ms"] >= line["queue_ms"] >= 0 for line in logged)


def test_a_models_own_limits_override_the_settings() -> None:
    settings = QueueSettings(64, 1024, 0.05, 30, 3)
    usual = Endpoint("m1", "iris", "1.0.0", ())
    assert queue_settings_for(usual, settings) == settings
    own = structs.replace(usual, bounds=QueueLimits(max_batch_size=8, batch_window_ms=0, predict_timeout_seconds=2))
    assert queue_settings_for(own, settings) == QueueSettings(8, 1024, 0, 2, 3)
    assert queue_settings_for(structs.replace(usual, bounds=QueueLimits(queue_length=1)), settings).queue_length == 1
