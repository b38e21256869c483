"""A replica that breaks the protocol: its connection ends, its requests are answered at once, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from app.dispatch.connection import FRAMES_A_TURN, WELCOME_BYTES_MAX, connect
from app.dispatch.request import Call, Prediction
from app.dispatch.response import problem_document
from app.dispatch.stream import StreamConnection
from app.errors import PrismError, ReplicaProtocolError
from model_container.contract import frames
from model_container.contract.frames import (
    ANSWERS,
    HEADER,
    PART,
    PONG,
    WELCOME,
    Answer,
    Frame,
    Request,
    encode,
    encode_answers,
)
from tests.fakes import eventually
from tests.unit.dispatch.batch_lab import call
from tests.unit.dispatch.doors import ask, gateway
from tests.unit.dispatch.doors import request as http
from tests.unit.dispatch.lying_replica import PLAIN, WIRE, Lie, LyingReplica, beside_iris, honest, lying, soon

GIB = 1 << 30
DEEP = b'{"detail":' + b"[" * 5000 + b"]" * 5000 + b"}"


def answers(count: int, body: bytes = PLAIN, status: int = 200, form: int = 0) -> Lie:
    return lambda frame: [encode_answers(frame.id, [Answer(body, status, form)] * count, 1, 1)]


def said(kind: int, payload: bytes = b"", items: int = 0, id_offset: int = 0) -> Lie:
    return lambda frame: [encode(frame.id + id_offset, kind, payload, items)]


BREACHES: dict[str, Lie] = {
    "no answer": answers(0),
    "two answers": answers(2),
    "answers to another frame": said(ANSWERS, encode_answers(0, [Answer(PLAIN)], 1, 1)[HEADER.size :], 1, id_offset=7),
    "answers shorter than they say": said(ANSWERS, b"\0" * 10, 1),
    "answers that do not fill their frame": said(ANSWERS, b"\0" * 16 + b"rest", 1),
    "no payload": said(ANSWERS, b"", 1),
    "a pong that nobody asked for": said(PONG, b'{"busy_ms":0}'),
    "a second welcome": said(WELCOME, b'{"protocol":1}'),
    "a part of no stream": said(PART, b"1"),
    "a frame of the gateway": said(frames.PREDICT, b"", 0),
    "a frame of no kind": said(200),
    "a gibibyte announced": lambda frame: [HEADER.pack(GIB, frame.id, ANSWERS, 0, 1)],
    "four gibibytes of nothing": lambda frame: [HEADER.pack(0xFFFFFFFF, 0, 0, 0, 0)],
    "an answer over the setting": answers(1, b"{" + b" " * (2 << 20)),
    "HTTP": lambda _: [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
    "a torn frame": lambda frame: [encode_answers(frame.id, [Answer(PLAIN)], 1, 1)[:-3]],
    "a torn header": lambda _: [b"\0\0\0"],
}


@pytest.mark.parametrize("lie", BREACHES.values(), ids=BREACHES)
async def test_a_protocol_violation_fails_only_its_own_requests_at_once(tmp_path: Path, lie: Lie) -> None:
    async with beside_iris(tmp_path, lie) as (dispatcher, _, _):
        asked = [asyncio.create_task(soon(dispatcher.predict(call(1, "liar")))) for _ in range(3)]
        beside = await soon(dispatcher.predict(call(2)))
        told = await asyncio.gather(*asked)
        assert isinstance(beside, Prediction)
        assert all(isinstance(one, ReplicaProtocolError) and one.status == 502 for one in told), told


async def test_a_replica_that_stops_lying_is_used_again(tmp_path: Path) -> None:
    async with beside_iris(tmp_path, answers(2)) as (dispatcher, liar, _):
        assert isinstance(await soon(dispatcher.predict(call(1, "liar"))), ReplicaProtocolError)
        liar.lie = honest
        lane = next(one for one in dispatcher.lanes if one.endpoint.name == "liar")
        await eventually(lambda: lane.replicas[0].connected)
        assert isinstance(await soon(dispatcher.predict(call(1, "liar"))), Prediction)


async def test_reconnecting_to_a_replica_that_closes_each_connection_is_delayed(tmp_path: Path) -> None:
    async with beside_iris(tmp_path, answers(2)) as (dispatcher, liar, _):
        liar.hangs_up = True
        assert isinstance(await soon(dispatcher.predict(call(1, "liar"))), PrismError)
        before = liar.connections
        await asyncio.sleep(1.0)
        assert liar.connections - before <= 4, "two a second, not thousands"


# what one answer says --------------------------------------------------------------------------------------------------

ODD = {
    "a problem nested 5,000 deep": Answer(DEEP, 500, frames.FORM_PROBLEM),
    "a problem that is no UTF-8": Answer(b'{"detail":"\xff"}', 500, frames.FORM_PROBLEM),
    "a problem that is no JSON": Answer(b"{", 422, frames.FORM_PROBLEM),
    "a problem that is a list": Answer(b"[]", 422, frames.FORM_PROBLEM),
    "a problem whose code is a number": Answer(b'{"code":1,"detail":"x"}', 422, frames.FORM_PROBLEM),
    "a problem whose code would be a header": Answer(b'{"code":"a\\r\\nx: y","detail":"x"}', 422, frames.FORM_PROBLEM),
    "a problem whose detail is an object": Answer(b'{"detail":{}}', 422, frames.FORM_PROBLEM),
    "a problem as large as an answer": Answer(b'{"detail":"%b"}' % (b"x" * 200_000), 422, frames.FORM_PROBLEM),
    "a problem of a status that is none": Answer(b'{"detail":"x"}', 65535, frames.FORM_PROBLEM),
    "a problem of success": Answer(b'{"detail":"x"}', 200, frames.FORM_PROBLEM),
    "a form that is none": Answer(PLAIN, 200, 65535),
    "a text": Answer(b"hello"),
    "nothing": Answer(b""),
}
PATHS = ("/models/iris/predict", "/v2/models/iris/infer")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_a_malformed_answer_is_502_for_its_request_alone(tmp_path: Path, odd: Answer, path: str) -> None:
    async def handler(requests: list[Request]) -> list[Answer]:
        return [odd if b"odd" in one.body else Answer(PLAIN) for one in requests]

    async with gateway(tmp_path, handler) as both:
        for port in (both.protocol, both.asgi):
            one, other = await asyncio.gather(ask(port, http(b'"odd"', path=path)), ask(port, http(b"[1]", path=path)))
            assert one.status == 502, one.body
            assert other.status == 200
            assert json.loads(one.body)["code" if path == PATHS[0] else "error"]
        assert set(both.lane.tally.statuses) <= {200, 422, 500, 502}, "a replica makes up no figures"


@pytest.mark.parametrize("body", [b"", b"\0\0", struct.pack("<I", 1 << 31) + b"{}"])
async def test_a_binary_answer_shorter_than_declared_is_502(tmp_path: Path, body: bytes) -> None:
    async def handler(requests: list[Request]) -> list[Answer]:
        return [Answer(body, 200, frames.FORM_V2_BINARY) for _ in requests]

    async with gateway(tmp_path, handler) as both:
        for port in (both.protocol, both.asgi):
            assert (await ask(port, http(path=PATHS[1]))).status == 502


async def test_status_and_type_inside_a_problem_document_are_ignored(tmp_path: Path) -> None:
    told = {
        "code": "wrong_width",
        "detail": "x",
        "status": {"a": 1},
        "type": "https://evil",
        "title": 7,
        "columns": ["b"],
    }

    async def handler(requests: list[Request]) -> list[Answer]:
        return [Answer(json.dumps(told).encode(), 422, frames.FORM_PROBLEM) for _ in requests]

    async with gateway(tmp_path, handler) as both:
        for port in (both.protocol, both.asgi):
            problem = (await ask(port, http())).problem
            assert (problem["status"], problem["type"]) == (422, "/docs/errors#wrong_width")
            assert (problem["title"], problem["columns"]) == ("Wrong width", ["b"])


@pytest.mark.parametrize(("code", "title"), [("not_csv", "Not CSV"), ("not_json", "Not JSON"), ("no_rows", "No rows")])
def test_a_problem_is_titled_by_its_code(code: str, title: str) -> None:
    assert problem_document(json.dumps({"code": code}).encode(), 422, "r1")["title"] == title


# memory and turns ------------------------------------------------------------------------------------------------------


async def test_an_unsolicited_gibibyte_is_not_accepted(tmp_path: Path) -> None:
    def flood(_: Frame) -> Iterator[bytes]:
        yield HEADER.pack(GIB - 1, 0, PONG, 0, 0)
        for _ in range(256):
            yield bytes(1 << 20)

    async with beside_iris(tmp_path, flood) as (dispatcher, liar, _):
        assert isinstance(await soon(dispatcher.predict(call(1, "liar"))), ReplicaProtocolError)
        assert liar.sent < 8 << 20, "what the sockets between hold"


@asynccontextmanager
async def streaming(liar: LyingReplica) -> AsyncIterator[StreamConnection]:
    link = StreamConnection(liar.replica.token, WIRE)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, liar.replica.address.socket)
    await asyncio.shield(link.welcomed)
    link.ask(Request(b"[1]"))
    try:
        yield link
    finally:
        await link.wait_closed()


async def test_a_stream_of_small_items_is_processed_a_few_at_a_time(tmp_path: Path) -> None:
    count = 20_000
    body = b"".join(encode(1, PART, b"1") for _ in range(count)) + encode_answers(1, [Answer(b"{}")], 1, 1)
    async with lying(tmp_path / "s", lambda _: [body]) as liar, streaming(liar) as link:
        taken = 0
        while not link.is_over or taken < count:
            async with asyncio.timeout(20):
                await link.heard.wait()
            items = link.take()
            assert len(items) <= FRAMES_A_TURN
            taken += len(items)
        assert taken == count
        assert link.end is not None


@pytest.mark.parametrize("item", [b"", b'1\n\ndata: "mine"', b"1\r"])
async def test_an_item_that_could_be_read_as_an_event_ends_the_stream(tmp_path: Path, item: bytes) -> None:
    def lie(frame: Frame) -> list[bytes]:
        return [encode(frame.id, PART, b"1") + encode(frame.id, PART, item)]

    async with lying(tmp_path / "s", lie) as liar, streaming(liar) as link:
        await eventually(lambda: link.is_over)
        assert link.end is None
        assert "item" in link.fault


async def test_an_interrupted_stream_is_502(tmp_path: Path) -> None:
    async with beside_iris(tmp_path, said(PART, b"1", id_offset=3)) as (dispatcher, _, _):
        stream = dispatcher.stream(Call("liar", b"[1]", "me"))
        assert await stream.first() == []
        assert isinstance(stream.error, ReplicaProtocolError)
        stream.close()


# welcome, pong, conversion ---------------------------------------------------------------------------------------------

WELCOMES = {
    "no JSON": encode(0, WELCOME, b"{"),
    "a list": encode(0, WELCOME, b"[]"),
    "a number for a word": encode(0, WELCOME, b'{"streams":1}'),
    "deep": encode(0, WELCOME, DEEP),
    "a million lists": encode(0, WELCOME, b'{"x":[%b]}' % b",".join([b"[]"] * 1_000_000)),
    "too large": HEADER.pack(WELCOME_BYTES_MAX + 1, 0, WELCOME, 0, 0),
    "answers": encode_answers(1, [Answer(PLAIN)], 1, 1),
}


@pytest.mark.parametrize("welcome", WELCOMES.values(), ids=WELCOMES)
async def test_a_malformed_handshake_is_not_a_connection(tmp_path: Path, welcome: bytes) -> None:
    liar = LyingReplica(tmp_path / "s", honest, welcome)
    await liar.start()
    with pytest.raises(ReplicaProtocolError):
        (await connect(liar.replica, 10, limits=WIRE)).welcome()  # read whole before the replica gets any traffic
    await liar.stop()


PONGS = [
    b"",
    b"[]",
    b'{"busy_ms":"1"}',
    b'{"busy_ms":-1}',
    b'{"busy_ms":1e400}',
    b'{"busy_ms":%b}' % (b"9" * 300),
    DEEP,
]


@pytest.mark.parametrize("pong", PONGS, ids=range(len(PONGS)))
async def test_a_malformed_heartbeat_answer_closes_the_connection(tmp_path: Path, pong: bytes) -> None:
    async with lying(tmp_path / "s", said(PONG, pong)) as liar:
        link = await connect(liar.replica, 10, limits=WIRE)
        assert isinstance(await soon(link.ping()), ReplicaProtocolError)
        assert not link.open


@pytest.mark.parametrize("lie", [answers(1), answers(3), lambda f: [HEADER.pack(GIB - 1, f.id, ANSWERS, 0, 2)]])
async def test_a_conversion_answer_is_two_bodies_within_limits(tmp_path: Path, lie: Lie) -> None:
    async with lying(tmp_path / "s", lie) as liar:
        link = await connect(liar.replica, 10, limits=WIRE)
        assert isinstance(await soon(link.convert()), ReplicaProtocolError)


async def test_a_frame_that_makes_progress_is_waited_for(tmp_path: Path) -> None:
    whole = encode_answers(1, [Answer(PLAIN)], 1, 1)
    async with lying(tmp_path / "s", lambda _: []) as liar:
        link = await connect(liar.replica, 10, limits=structs.replace(WIRE, stall_seconds=5))
        asking = asyncio.create_task(link.predict(Request(b"[1]")))
        await eventually(lambda: bool(liar.hears))
        for byte in whole:
            link.data_received(bytes([byte]))
        assert (await asking).body == PLAIN
        await link.wait_closed()


async def test_a_replica_client_recovers_if_one_connection_ends_while_the_other_opens(tmp_path: Path) -> None:
    async with beside_iris(tmp_path, honest) as (dispatcher, liar, _):
        lane = next(one for one in dispatcher.lanes if one.endpoint.name == "liar")
        liar.welcome += encode(0, 200)  # each connection is welcomed, then ended
        liar.lie = answers(2)
        assert isinstance(await soon(dispatcher.predict(call(1, "liar"))), PrismError)
        await asyncio.sleep(1.2)
        liar.welcome, liar.lie = encode(0, WELCOME, b"{}"), honest
        await eventually(lambda: lane.replicas[0].connected)
        assert isinstance(await soon(dispatcher.predict(call(1, "liar"))), Prediction)
