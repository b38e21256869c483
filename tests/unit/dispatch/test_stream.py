"""The gateway's side of a stream, in front of a runtime that really streams."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from msgspec import structs

from app.access.admission import Admission, identity
from app.access.keys import Keys
from app.access.rate_limit import RateLimiter
from app.access.throttle import FailedKeyThrottle
from app.core.breaker import OPEN_SECONDS, State
from app.core.route_table import Endpoint
from app.dispatch.batch import Lane
from app.dispatch.head_cache import HeadCache
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.dispatch.stream import Stream, end_document
from app.error_shapes import native_error
from app.errors import NotFound, Overloaded, RateLimited, ReplicaUnavailable, Unavailable
from app.observe.tally import ModelCounters
from app.protocols import streaming
from app.protocols.error_forms import ERROR_FORMS
from model_container.contract import frames
from model_container.contract.stream_forms import EVENTS, LINES, form_asked_for
from tests.fakes import FakeReplica, eventually
from tests.unit.dispatch.stream_lab import FLOW, gateway
from tests.unit.model_container.streaming_lab import Model


async def all_of(stream: Stream) -> list[bytes]:
    return await stream.first() + await rest_of(stream)


async def rest_of(stream: Stream) -> list[bytes]:
    items: list[bytes] = []
    while not stream.is_over:
        items += await stream.take(20)
    return items


async def test_a_stream_gives_its_items_and_is_counted(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        stream = here.stream(3)
        assert here.dispatcher.open_streams("m1") == here.lane.pending == 1
        assert await all_of(stream) == [b"0", b"1", b"2"]
        assert not stream.has_failed
        assert end_document(stream) == {"model": "counter", "version": "1.0.0", "model_id": "m1", "items": 3}
        stream.close()
        stream.close()
        assert here.dispatcher.open_streams("m1") == here.lane.pending == 0
        assert here.lane.tally.statuses == {200: 1}
        assert sum(here.lane.tally.latency.counts) == 1
        assert here.lane.replicas[0].streams == 0


async def test_a_problem_of_the_model_ends_it_and_is_counted_as_such(tmp_path: Path) -> None:
    model = Model()
    model.fails_at = {2: RuntimeError("broken")}
    async with gateway(tmp_path, model) as here:
        stream = here.stream(5)
        assert await all_of(stream) == [b"0", b"1"]
        assert stream.has_failed
        stream.close()
        assert here.lane.tally.statuses == {500: 1}


async def test_open_streams_are_limited(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        streams = [here.stream(1), here.stream(1)]
        with pytest.raises(Overloaded, match="2 streams of `counter`") as refused:
            here.stream(1)
        assert refused.value.headers["Retry-After"]
        assert here.dispatcher.refusals["overloaded"] == 1
        streams[0].close()
        streams[0] = here.stream(1)
        for stream in streams:
            assert await all_of(stream) == [b"0"]
            stream.close()


async def test_limits_and_names_are_those_of_a_prediction(tmp_path: Path) -> None:
    async with gateway(tmp_path, rate_limit=1) as here:
        stream = here.stream(1)
        assert stream.allowance is not None
        stream.close()
        with pytest.raises(RateLimited):
            here.stream(1)
        with pytest.raises(NotFound):
            here.dispatcher.stream(Call("nobody", b"{}", "another"))


@pytest.mark.parametrize("late", [0, 1])
async def test_each_item_has_the_time_of_a_prediction(tmp_path: Path, late: int) -> None:
    model = Model()
    model.gates = {late: threading.Event()}
    async with gateway(tmp_path, model) as here:
        stream = here.stream(3)
        items = await stream.first() if late else []
        here.lane.flow = structs.replace(FLOW, timeout_seconds=0.5)
        items += await (rest_of if late else all_of)(stream)
        assert (len(items), stream.status) == (late, 504)
        assert stream.error is not None
        assert ("next" if late else "first") in stream.error.detail
        stream.close()
        assert here.lane.tally.statuses == {504: 1}
        model.gates[late].set()
        await eventually(model.closed.is_set, 20)


async def test_no_item_is_made_that_the_client_does_not_read(tmp_path: Path) -> None:
    model = Model()
    model.size = 1 << 14
    async with gateway(tmp_path, model) as here:
        stream = here.stream(5000)
        items = await stream.first()
        seen: list[int] = []

        def stands_still() -> bool:
            seen.append(model.made)
            return len(seen) > 100 and seen[-100] == seen[-1]

        await eventually(stands_still, 20)
        assert model.made < 300
        while not stream.is_over:
            items += await stream.take(20)
        assert len(items) == 5000
        stream.close()


async def test_closing_it_closes_the_generator(tmp_path: Path) -> None:
    model = Model()
    model.size = 1 << 14
    async with gateway(tmp_path, model) as here:
        stream = here.stream(1_000_000)
        assert await stream.first()
        stream.close()
        await eventually(model.closed.is_set, 20)
        assert here.lane.tally.statuses == {200: 1}


async def test_a_client_that_leaves_before_the_first_item_is_not_counted(tmp_path: Path) -> None:
    model = Model()
    model.gates = {0: threading.Event()}
    async with gateway(tmp_path, model) as here:
        stream = here.stream(1)
        beginning = asyncio.ensure_future(stream.first())
        await eventually(lambda: here.lane.replicas[0].streams == 1)
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        stream.close()
        assert here.lane.tally.statuses == {}
        assert here.lane.pending == 0


class Losing(FakeReplica):
    """Is lost as soon as it has been asked for a stream."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, welcome={"protocol": frames.PROTOCOL, "streams": True})
        self.asked = 0

    async def _answer(self, frame: frames.Frame, writer: asyncio.StreamWriter) -> None:
        await super()._answer(frame, writer)
        if frame.kind == frames.STREAM:
            self.asked += 1
            writer.close()


async def test_a_replica_lost_before_the_first_item_is_tried_once_more(tmp_path: Path) -> None:
    losing = Losing(tmp_path / "losing.sock")
    await losing.start()
    async with gateway(tmp_path) as here:
        await here.publish(losing.replica)
        stream = here.stream(1)
        assert await stream.first() == []
        assert isinstance(stream.error, ReplicaUnavailable)
        assert losing.asked == 2
        stream.close()
        assert here.lane.replicas[0].streams == 0
    await losing.die()


async def test_a_runtime_that_is_too_old_says_so(tmp_path: Path) -> None:
    old = FakeReplica(tmp_path / "old.sock")
    await old.start()
    async with gateway(tmp_path) as here:
        await here.publish(old.replica)
        stream = here.stream(1)
        assert await stream.first() == []
        assert "without streams" in str(stream.error)
        stream.close()
    await old.die()


async def test_a_replaced_replica_finishes_its_streams(tmp_path: Path) -> None:
    model = Model()
    model.gates = {1: threading.Event()}
    async with gateway(tmp_path, model) as here:
        (replica,) = here.lane.endpoint.replicas
        stream = here.stream(3)
        items = await stream.first()
        await here.publish(here.replica())
        draining = asyncio.ensure_future(here.dispatcher.drained(replica, 20))
        assert here.dispatcher.open_streams("m1") == 1
        model.gates[1].set()
        while not stream.is_over:
            items += await stream.take(20)
        assert items == [b"0", b"1", b"2"]
        assert not draining.done()
        stream.close()
        assert await draining


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error(tmp_path: Path) -> None:
    model = Model()
    model.gates = {1: threading.Event()}
    async with gateway(tmp_path, model) as here:
        (replica,) = here.lane.endpoint.replicas
        stream = here.stream(3)
        assert await stream.first() == [b"0"]
        waiting = asyncio.ensure_future(stream.take(20))
        await here.publish(here.replica())
        assert not await here.dispatcher.drained(replica, 0.05)
        assert await waiting == []
        assert isinstance(stream.error, ReplicaUnavailable)
        stream.close()


async def test_shutdown_ends_every_stream_and_starts_none(tmp_path: Path) -> None:
    model = Model()
    model.gates = {1: threading.Event()}
    async with gateway(tmp_path, model) as here:
        stream = here.stream(3)
        assert await stream.first() == [b"0"]
        waiting = asyncio.ensure_future(stream.take(20))
        here.dispatcher.end_streams()
        assert await waiting == []
        assert isinstance(stream.error, Unavailable)
        stream.close()
        with pytest.raises(Unavailable, match="shutting down"):
            here.stream(1)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        ("text/event-stream", EVENTS),
        ("Text/Event-Stream", EVENTS),
        ("application/x-ndjson", LINES),
        ("application/json, text/event-stream", EVENTS),
        ("application/json;q=0.5, text/event-stream;q=0.4", None),
        ("text/event-stream;q=0", None),
        ("text/event-stream;q=x", None),
        ("text/html, application/x-ndjson; q=0.9, text/event-stream; q=0.1", LINES),
    ],
)
def test_the_accept_header_says_whether_and_how_to_stream(accept: str, form: Any) -> None:
    assert form_asked_for(accept) is form


def door() -> HeadCache:
    dispatcher = Dispatcher(RateLimiter(0, 1), FLOW, lambda *_: None)
    return HeadCache(
        dispatcher, Admission(Keys(), lambda: False, lambda name: True, FailedKeyThrottle()), ERROR_FORMS, 1000, 1
    )


@pytest.mark.parametrize("accept", [b"text/event-stream", b"*/*, Application/X-NDJSON", b"application/jsonl;q=0.1"])
def test_a_request_for_a_stream_leaves_the_fast_path(accept: bytes) -> None:
    read: Callable[[bytes], Any] = lambda value: door().read_head(  # noqa: E731
        b"/models/counter/predict", [(b"host", b"x"), (b"content-length", b"2"), (b"accept", value)], "127.0.0.1"
    )
    assert read(b"*/*") is not None
    assert read(accept) is None


async def test_streams_go_to_the_least_loaded_replica(tmp_path: Path) -> None:
    model = Model()
    model.gates = {1: threading.Event()}
    async with gateway(tmp_path, model) as here:
        first, second = here.replica(), here.replica()
        lane = Lane(Endpoint("m1", "counter", "1.0.0", (first, second)), FLOW, lambda *_: None, ModelCounters())
        await lane.open()
        request = frames.Request(b'{"features": [[2]]}')
        streams = [Stream(lane, request, None) for _ in range(2)]
        for stream in streams:
            assert await stream.first() == [b"0"]
        assert [line.streams for line in lane.replicas] == [1, 1]
        for stream in streams:
            stream.close()
        assert [line.streams for line in lane.replicas] == [0, 0]
        model.gates[1].set()
        await lane.close()


async def test_a_stream_is_not_used_to_test_an_open_circuit(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        (line,) = here.lane.replicas
        line.breaker.trip(monotonic() - OPEN_SECONDS)
        assert line.breaker.state(monotonic()) is State.HALF_OPEN
        with pytest.raises(ReplicaUnavailable):
            here.stream(1)


async def test_a_silent_event_stream_sends_keep_alive_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ALIVE_SECONDS", 0.05)
    model = Model()
    model.gates = {1: threading.Event()}
    async with gateway(tmp_path, model) as here:
        stream = here.stream(2)
        answer = streaming.Streamed(stream, await stream.first(), EVENTS, identity, "r1", native_error, {})
        parts = aiter(answer.body_iterator)
        assert await anext(parts) == b"id: 0\ndata: 0\n\n"
        assert [await anext(parts) for _ in range(2)] == [b": alive\n\n"] * 2
        model.gates[1].set()
        rest = b"".join([bytes(part) async for part in parts if isinstance(part, bytes)])
        assert rest.replace(b": alive\n\n", b"").startswith(b"id: 1\ndata: 1\n\nevent: end\ndata: {")
        stream.close()
