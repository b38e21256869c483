"""The link under 10,000 frames that nobody thought of: every request has an answer, memory is bounded, others are served."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs
from structlog.testing import capture_logs

from app.dispatch.connection import connect
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call, Prediction
from app.errors import PrismError
from model_container.contract import frames
from model_container.contract.frames import HEADER, Answer, Frame, Request, encode, encode_answers
from tests.unit.dispatch.batch_lab import call
from tests.unit.dispatch.lying_replica import FLOW, PLAIN, WIRE, LyingReplica, beside_iris, honest

FRAMES = 10_000
EXAMPLES = 150
MOVES = 20
WAVES = 4
FLOOD = 200
DEADLINE_SECONDS = 0.4
HASTY = structs.replace(FLOW, timeout_seconds=DEADLINE_SECONDS, wire=structs.replace(WIRE, stall_seconds=0.2))
PATIENCE_SECONDS = 15.0
"""For what takes DEADLINE_SECONDS where the machine has nothing else to do."""

BODIES = (
    PLAIN,
    b"",
    b"{}",
    b"[]",
    b'{"detail":"no"}',
    b'{"code":"a\\nb","detail":{}}',
    b'{"busy_ms":0}',
    b'{"busy_ms":-9e99}',
    b'{"streams":3}',
    b'{"a":' * 5000,
    b"\xff\xfe",
    b"\n\n",
    bytes(70_000),
)
STATUSES = (200, 422, 500, 0, 204, 999, 65535)
KINDS = range(12)


class Move(Struct, frozen=True):
    """One thing that is written. kind: of a frame; -1 for answers, as many as were asked for and `extra` more. cut: bytes
    that are missing at its end. flood: how often it is written at once. items: that come before the end of a stream."""

    kind: int
    body: bytes
    status: int = 200
    form: int = 0
    extra: int = 0
    id_offset: int = 0
    length_offset: int = 0
    cut: int = 0
    flood: int = 1
    items: int = 0

    def written(self, frame: Frame) -> bytes:
        frame_id = (frame.id + self.id_offset) & 0xFFFFFFFF
        if self.kind < 0:
            count = max(0, frame.items + self.extra)
            whole = encode_answers(frame_id, [Answer(self.body, self.status, self.form)] * count, 1, 1)
            if frame.kind == frames.STREAM:
                whole = encode(frame.id, frames.PART, b"1") * self.items + whole
            elif frame.kind == frames.PING:
                whole = encode(0, frames.PONG, b"{}")
            elif frame.kind == frames.CONVERT:
                whole = encode_answers(frame_id, [Answer(self.body)] * (2 + self.extra), 1, 1)
        else:
            whole = encode(frame_id, self.kind, self.body, frame.items)
        if self.length_offset:
            length = (len(whole) - HEADER.size + self.length_offset) & 0xFFFFFFFF
            whole = HEADER.pack(length, *HEADER.unpack_from(whole)[1:]) + whole[HEADER.size :]
        return whole[: max(1, len(whole) - self.cut)] * self.flood


truthful = st.builds(Move, st.just(-1), st.just(PLAIN), items=st.sampled_from([0, 1, FLOOD]))
odd_answers = st.builds(
    Move,
    st.just(-1),
    st.sampled_from(BODIES),
    st.sampled_from(STATUSES),
    st.integers(0, 6),
    st.sampled_from([0, 0, 0, 1, -1]),
)
anything = st.builds(
    Move,
    st.sampled_from((-1, *KINDS)),
    st.sampled_from(BODIES) | st.binary(max_size=30),
    id_offset=st.sampled_from([0, 0, 1, -1, 77]),
    length_offset=st.sampled_from([0, 0, 1, -1, 1 << 20, 1 << 29]),
    cut=st.sampled_from([0, 0, 1, 13, 1000]),
    flood=st.sampled_from([1, 1, FLOOD]),
)
move = st.integers(0, 9).flatmap(lambda kind: truthful if kind < 6 else odd_answers if kind < 8 else anything)
moves = st.lists(st.lists(move, min_size=1, max_size=2), min_size=MOVES, max_size=MOVES)
"""What is written when a frame comes, and when the next one does: mostly the truth, or nothing after it would be read."""


class Laboratory:
    """The loop of all examples; hypothesis runs outside of it. sent: frames that were written."""

    def __init__(self, folder: Path, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.folder = folder
        self.run = run
        self.sent = 0
        self.numbers = itertools.count()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("liars")
    with capture_logs(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield Laboratory(folder, runner.run)


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def ended(asked: Awaitable[object]) -> None:
    """It has an answer, or an error of ours."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(PrismError):
            await asked


async def waves(dispatcher: Dispatcher) -> None:
    for _ in range(WAVES):
        await asyncio.gather(*(ended(dispatcher.predict(call(number, "liar"))) for number in range(2)))


async def streamed(dispatcher: Dispatcher) -> None:
    stream = dispatcher.stream(Call("liar", b"[1]", "me"))
    try:
        items = await stream.first()
        while items and not stream.is_over:
            items = await stream.take(DEADLINE_SECONDS)
        assert stream.is_over or not items
    finally:
        stream.close()


async def converted(liar: LyingReplica) -> None:
    link = await connect(liar.replica, PATIENCE_SECONDS, limits=HASTY.wire)
    try:
        with contextlib.suppress(TimeoutError):  # it bounds the wait itself, as who converts does
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.gather(link.ping(), link.predict(Request(b"[1]")), link.convert())
    finally:
        await link.wait_closed()


async def lived_through(lab: Laboratory, planned: list[list[Move]]) -> None:
    left = iter(planned)

    def lie(frame: Frame) -> Iterator[bytes]:
        written = next(left, [])
        for one in written if len(written) == 2 and written[1].kind >= 0 else written[:1]:
            lab.sent += one.flood
            yield one.written(frame)

    folder = lab.folder / str(next(lab.numbers))
    folder.mkdir()
    async with beside_iris(folder, honest, HASTY) as (dispatcher, liar, _):
        liar.lie = lie
        asked = [waves(dispatcher), waves(dispatcher)]
        others = [ended(streamed(dispatcher)), ended(converted(liar))]
        beside = [dispatcher.predict(call(number)) for number in range(2)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            *_, first, second = await asyncio.gather(*asked, *others, *beside)
        assert all(isinstance(one, Prediction) for one in (first, second)), "another model is served meanwhile"
        assert dispatcher.lanes[0].pending == 0


@given(planned=moves)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def check(lab: Laboratory, planned: list[list[Move]]) -> None:
    lab.run(lived_through(lab, planned))


def test_with_arbitrary_replica_bytes_every_request_is_answered_and_memory_is_bounded(lab: Laboratory) -> None:
    before = resident_bytes()
    check(lab)
    assert lab.sent >= FRAMES, lab.sent
    assert resident_bytes() - before < 200 << 20
