"""Streams under a canary: rescued before their first item, never after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from app.core.model import Deployment, Replica, Status
from app.core.rollout.records import Evidence
from app.core.route import Route
from app.core.route_table import route_table
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.stream import Stream, stream_headers
from model_container.contract import frames
from model_container.contract.frames import Frame
from tests.unit.dispatch.canary_lab import CANDIDATE, STABLE, canary_route
from tests.unit.dispatch.lying_replica import honest, lying
from tests.unit.dispatch.stream_lab import FLOW, Gateway
from tests.unit.model_container.streaming_lab import Model


class Arms:
    """Two versions of `counter` that really stream. candidate, stable: their models."""

    def __init__(self, candidate: Gateway, stable: Gateway, dispatcher: Dispatcher) -> None:
        self.candidate = candidate.model
        self.stable = stable.model
        self.dispatcher = dispatcher
        self.stream = stable.stream

    @property
    def evidence(self) -> Evidence:
        return self.dispatcher.evidence("counter")


@asynccontextmanager
async def arms(
    folder: Path, route: Route | None = None, flow: QueueSettings = FLOW, instead: Replica | None = None
) -> AsyncIterator[Arms]:
    """instead: the replica of the candidate, if it is not to be a real one."""
    folders = folder / "s", folder / "c"
    for each in folders:
        each.mkdir()
    stable, candidate = (Gateway(each, Model(), flow) for each in folders)
    deployments = [
        Deployment(model_id, "counter", version, Status.LIVE, True, "process", (replica,), live_at=version)
        for replica, model_id, version in (
            (stable.replica(), STABLE, "1.0.0"),
            (instead or candidate.replica(), CANDIDATE, "2.0.0"),
        )
    ]
    try:
        await stable.dispatcher.publish(route_table(deployments, splits={"counter": route or canary_route()}))
        yield Arms(candidate, stable, stable.dispatcher)
    finally:
        await candidate.close()
        await stable.close()


async def items_of(stream: Stream) -> int:
    """Read a stream to its end, and close it. Returns how many items came."""
    items = len(await stream.first())
    while not stream.is_over:
        items += len(await stream.take(20))
    stream.close()
    return items


def is_rescued(stream: Stream) -> bool:
    headers = stream_headers(stream)
    assert headers["x-model-id"] == (STABLE if "x-prism-rescued" in headers else CANDIDATE)
    return headers.get("x-prism-rescued") == "2.0.0"


async def test_a_healthy_candidate_streams_itself(tmp_path: Path) -> None:
    async with arms(tmp_path) as here:
        stream = here.stream(3)
        assert await items_of(stream) == 3
        assert not is_rescued(stream)
        assert here.evidence == Evidence(answers=1)


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_a_stream_without_a_first_item_is_the_stable_versions(tmp_path: Path, fault: str) -> None:
    async with arms(tmp_path, canary_route(overdue_seconds=0.3 if fault == "hangs" else 10.0)) as here:
        if fault == "fails":
            here.candidate.fails_at[0] = RuntimeError("no")
        else:
            here.candidate.gates[0] = threading.Event()
        stream = here.stream(3)
        assert await items_of(stream) == 3
        assert is_rescued(stream)
        evidence = here.evidence
        assert all(not lane.streams for lane in here.dispatcher.lanes)
        assert here.dispatcher.tallies[STABLE].statuses == {200: 1}
        assert here.dispatcher.tallies[CANDIDATE].statuses == {500 if fault == "fails" else 504: 1}
    assert (evidence.answers, evidence.bad, evidence.rescued) == (1, 1, 1)
    assert evidence.incidents[0].cause == {"fails": "status 500", "hangs": "overdue"}[fault]


async def test_a_stream_whose_replica_is_lost_is_the_stable_versions_at_once(tmp_path: Path) -> None:
    def hang_up(frame: Frame) -> list[bytes]:
        return [b""] if frame.kind == frames.STREAM else honest(frame)

    async with lying(tmp_path / "liar", hang_up) as liar, arms(tmp_path, instead=liar.replica) as here:
        stream = here.stream(3)
        assert await items_of(stream) == 3
        assert is_rescued(stream)
        assert here.evidence.incidents[0].cause == "lost"
        assert sum(frame.kind == frames.STREAM for frame in liar.hears) == 1, "it is not tried there a second time"


async def test_a_stream_is_not_rescued_after_its_first_item(tmp_path: Path) -> None:
    async with arms(tmp_path) as here:
        here.candidate.fails_at[2] = RuntimeError("no")
        stream = here.stream(5)
        assert await items_of(stream) == 2
        assert stream.has_failed
        assert here.stable.made == 0
        evidence = here.evidence
    assert (evidence.answers, evidence.bad, evidence.rescued) == (1, 1, 0)


async def test_a_stream_that_both_refuse_is_no_evidence(tmp_path: Path) -> None:
    async with arms(tmp_path) as here:
        here.candidate.fails_at[0] = here.stable.fails_at[0] = RuntimeError("no")
        stream = here.stream(3)
        assert await items_of(stream) == 0
        assert stream.has_failed
        assert stream_headers(stream)["x-model-id"] == STABLE
        assert here.evidence == Evidence(both_failed=1)


async def test_a_candidate_with_too_many_open_streams_is_rescued(tmp_path: Path) -> None:
    async with arms(tmp_path, flow=structs.replace(FLOW, max_streams=1)) as here:
        here.candidate.gates[1] = threading.Event()
        first = here.stream(3)
        assert len(await first.first()) == 1
        second = here.stream(3)
        assert await items_of(second) == 3
        assert is_rescued(second)
        first.close()


async def test_a_client_that_leaves_a_stream_before_its_first_item_is_no_evidence(tmp_path: Path) -> None:
    async with arms(tmp_path) as here:
        here.candidate.gates[0] = threading.Event()
        stream = here.stream(3)
        beginning = asyncio.create_task(stream.first())
        await asyncio.sleep(0.1)
        beginning.cancel()
        stream.close()
        assert here.evidence == Evidence()


async def test_without_rescue_a_failed_stream_is_the_callers(tmp_path: Path) -> None:
    async with arms(tmp_path, canary_route(rescue=False, overdue_seconds=0.05)) as here:
        here.candidate.fails_at[0] = RuntimeError("no")
        stream = here.stream(3)
        assert await items_of(stream) == 0
        assert not is_rescued(stream)
        assert here.evidence.bad == 1
        assert here.stable.made == 0
