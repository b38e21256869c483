"""The protocol door: it answers as the ASGI door does, and keeps to HTTP where a client does not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app.dispatch.head_cache import PER_REQUEST
from app.dispatch.limits import QueueSettings
from app.dispatch.server import FEW_BYTES, HEAD_LIMIT_BYTES, HEADS_A_TURN, Connection
from model_container.contract import frames
from model_container.contract.frames import Answer as Predicted
from model_container.contract.frames import Request
from tests.fakes import echo, eventually
from tests.unit.dispatch.doors import (
    HEALTH,
    LAST,
    MAX_BODY_BYTES,
    Answer,
    Client,
    Gateway,
    ask,
    connected,
    gateway,
    last_words,
    request,
    same,
)

pytestmark = pytest.mark.usefixtures("quiet")
KEY = "X-API-Key: secret"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def quiet() -> Iterator[None]:
    """What the application logs of clients that go away is not rendered, which can take a second each."""
    with capture_logs():
        yield


@pytest.fixture(scope="module")
async def keyed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("keyed"), options_and_problems, keys=["secret"]) as both:
        yield both


@pytest.fixture(scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("open")) as both:
        yield both


async def options_and_problems(requests: list[Request]) -> list[Predicted]:
    return [
        (
            Predicted(b'{"code":"bad_input","detail":"No such feature.","hint":"Look."}', 422, frames.FORM_PROBLEM)
            if one.body == b'"problem"'
            else Predicted(b'{"predictions":[%b,%d]}' % (one.body, one.options))
        )
        for one in requests
    ]


@asynccontextmanager
async def held(folder: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, asyncio.Event]]:
    """A gateway whose replica answers when the event is set, and what it got by then."""
    release = asyncio.Event()

    async def answer(requests: list[Request]) -> list[Predicted]:
        await release.wait()
        return await echo(requests)

    async with gateway(folder, answer, **settings) as both:
        try:
            yield both, release
        finally:
            release.set()


def connections(both: Gateway) -> list[Connection]:
    """Those that the protocol door has open."""
    return cast(list[Connection], list(both.server.server_state.connections))


# Two doors ------------------------------------------------------------------------------------------------------------

TRACE = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ALIKE = {
    "one row": (200, request(b'{"a": 1}', KEY)),
    "several rows": (200, request(b'{"features": [[1, 2], [3, 4]]}', KEY)),
    "a version": (200, request(b"[1]", KEY, path="/models/iris@1.0.0/predict")),
    "a model_id": (200, request(b"[1]", KEY, path="/models/m1/predict")),
    "probabilities": (200, request(b"[1]", KEY, path="/models/iris/predict?probabilities=true")),
    "no probabilities": (200, request(b"[1]", KEY, path="/models/iris/predict?probabilities=false")),
    "probabilities said otherwise": (200, request(b"[1]", KEY, path="/models/iris/predict?probabilities=1")),
    "probabilities that are no truth value": (400, request(b"[1]", KEY, path="/models/iris/predict?probabilities=x")),
    "another query": (200, request(b"[1]", KEY, path="/models/iris/predict?x=1")),
    "an escaped path": (200, request(b"[1]", KEY, path="/models/ir%69s/predict")),
    "an absolute target": (200, request(b"[1]", KEY, path="http://localhost/models/iris/predict")),
    "a big body": (200, request(b"[%b1]" % (b"1," * 100_000), KEY)),
    "a body over the limit": (413, request(b" " * (MAX_BODY_BYTES + 1), KEY)),
    "an empty body": (200, request(b'""', KEY)),
    "a bearer's key": (200, request(b"[1]", "Authorization: Bearer  secret ")),
    "a bearer in capitals": (200, request(b"[1]", "AUTHORIZATION: BEARER secret")),
    "two keys": (200, request(b"[1]", KEY, "Authorization: Bearer wrong")),
    "no key": (401, request(b"[1]")),
    "a wrong key": (401, request(b"[1]", "X-API-Key: wrong")),
    "an empty key beside a good one": (401, request(b"[1]", "X-API-Key:", "Authorization: Bearer secret")),
    "a key's header twice": (401, request(b"[1]", "X-API-Key: wrong", KEY)),
    "an unknown model": (404, request(b"[1]", KEY, path="/models/nobody/predict")),
    "an unknown version": (404, request(b"[1]", KEY, path="/models/iris@9.0.0/predict")),
    "two dots for a model": (404, request(b"[1]", KEY, path="/models/../predict")),
    "a replica's problem": (422, request(b'"problem"', KEY)),
    "another type": (415, request(b"[1]", KEY).replace(b"application/json", b"text/html")),
    "a type of JSON": (200, request(b"[1]", KEY).replace(b"application/json", b"application/x+json")),
    "a type with its charset": (200, request(b"[1]", KEY).replace(b"on/json", b"on/json; Charset=UTF-8")),
    "no type": (200, request(b"[1]", KEY).replace(b"Content-Type: application/json\r\n", b"")),
    "an empty type": (200, request(b"[1]", KEY).replace(b"application/json", b"")),
    "another host": (403, request(b"[1]", KEY, host="evil.example")),
    "an empty host": (400, request(b"[1]", KEY, host="")),
    "no host": (400, request(b"[1]", KEY).replace(b"Host: localhost\r\n", b"")),
    "an address for a host": (200, request(b"[1]", KEY, host="192.0.2.1:8000")),
    "another origin": (403, request(b"[1]", KEY, "Origin: http://evil.example")),
    "its own origin": (200, request(b"[1]", KEY, "Origin: http://localhost")),
    "a request id": (200, request(b"[1]", KEY, "X-Request-ID: from-me_1")),
    "a request id of nonsense": (200, request(b"[1]", KEY, "X-Request-ID: a b")),
    "an accept": (200, request(b"[1]", KEY, "Accept: */*", "Accept-Encoding: gzip", "User-Agent: curl/8")),
    "an unknown header": (200, request(b"[1]", KEY, "X-Unknown: 1")),
    "a tracer's headers": (200, request(b"[1]", KEY, TRACE, "tracestate: a=1", "baggage: user=1")),
    "a proxy's headers": (200, request(b"[1]", KEY, "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil.example")),
}


@pytest.mark.parametrize(("status", "sent"), ALIKE.values(), ids=ALIKE)
async def test_the_fast_path_and_asgi_answer_alike_with_and_without_a_cached_head(
    keyed: Gateway, status: int, sent: bytes
) -> None:
    async with connected(keyed.protocol) as client, connected(keyed.asgi) as other:
        await client.send(sent)
        first = await client.answer()
        await client.send(sent)
        again = await client.answer()
        await other.send(sent)
        expected = await other.answer()
    assert expected.status == status
    same(first, expected)
    same(again, expected)


async def test_a_given_request_id_comes_back_and_another_is_never_the_same_twice(keyed: Gateway) -> None:
    named = request(b"[1]", KEY, "X-Request-ID: from-me_1")
    assert (await ask(keyed.protocol, named)).headers["x-request-id"] == "from-me_1"
    async with connected(keyed.protocol) as client:
        await client.send(*[request(b"[1]", KEY)] * 2)
        one, other = await client.answers(2)
    assert one.headers["x-request-id"] != other.headers["x-request-id"]


async def test_a_rate_limit_counts_requests_of_the_fast_path_and_asgi_together(tmp_path: Path) -> None:
    async with gateway(tmp_path, rate_limit=4) as both:
        answers = [await ask(port, request()) for port in (both.protocol, both.asgi) * 2]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["3", "2", "1", "0"]
        refused = [await ask(port, request()) for port in (both.protocol, both.asgi)]
    assert [answer.problem["code"] for answer in refused] == ["rate_limited"] * 2
    assert refused[0].headers["retry-after"]
    assert refused[0].headers.keys() == refused[1].headers.keys()


@pytest.mark.parametrize(
    ("odd", "host"),
    [
        ((), "prism.example"),  # the name of a tunnel that the owner opened to this port
        ((), "203.0.113.7"),
        (("X-Forwarded-For: 127.0.0.1",), "localhost"),
        (("Forwarded: for=127.0.0.1",), "localhost"),
        (("Via: 1.1 proxy",), "127.0.0.1"),
        (("Ngrok-Skip-Browser-Warning: 1",), "localhost"),
    ],
)
async def test_the_owner_on_this_machine_is_not_limited_and_who_comes_by_a_proxy_or_a_tunnel_is(
    tmp_path: Path, odd: tuple[str, ...], host: str
) -> None:
    async with gateway(tmp_path, rate_limit=2, limits_owner=False) as both:
        for port in (both.protocol, both.asgi):
            for own in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
                answers = [await ask(port, request(host=own)) for _ in range(3)]
                assert [answer.status for answer in answers] == [200] * 3
                assert "ratelimit-limit" not in answers[0].headers
        relayed = [await ask(port, request(b"[1]", *odd, host=host)) for port in (both.protocol, both.asgi) * 2]
        assert [answer.status for answer in relayed] == [200, 200, 429, 429]
        assert (await ask(both.protocol, request())).status == 200


async def test_the_holder_of_a_key_is_limited_on_this_machine_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, keys=["secret"], rate_limit=2, limits_owner=False) as both:
        answers = [await ask(port, request(b"[1]", KEY)) for port in (both.protocol, both.asgi) * 2]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
    async with gateway(tmp_path, rate_limit=2, limits_owner=False) as both:
        both.keys.add("key_1", hashlib.sha256(b"secret").hexdigest())
        answers = [await ask(port, request(b"[1]", KEY)) for port in (both.protocol, both.asgi) * 2]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]


async def test_a_head_that_the_owner_sent_counts_the_caller_who_repeats_it_from_elsewhere(tmp_path: Path) -> None:
    async with gateway(tmp_path, rate_limit=2, limits_owner=False) as both:
        assert (await ask(both.protocol, request())).status == 200
        assert both.door.heads, "it is cached"
        async with connected(both.protocol) as elsewhere:
            await elsewhere.send(request())
            await elsewhere.answer()
            (connection,) = both.door.connections
            connection.address = "203.0.113.7"
            connection.direct_caller = both.door.direct_caller("203.0.113.7")
            await elsewhere.send(*[request()] * 3)
            assert [answer.status for answer in await elsewhere.answers(3)] == [200, 200, 429]


async def test_a_full_queue_gives_the_same_refusal_on_both_paths(tmp_path: Path) -> None:
    async with held(tmp_path, flow=QueueSettings(8, 1, 10.0, 20.0, 20.0)) as (both, _):
        async with connected(both.protocol) as first, connected(both.protocol) as second:
            await first.send(request())
            await eventually(lambda: both.replica.batches == [1])
            await second.send(request())
            await eventually(lambda: both.lane.queued == 1)
            refused = [await ask(port, request()) for port in (both.protocol, both.asgi)]
    assert refused[0].problem["code"] == "overloaded"
    same(*refused)


@pytest.mark.parametrize("odd", [Predicted(b"x", 500, frames.FORM_PROBLEM), Predicted(b"[]", 500, frames.FORM_PROBLEM)])
async def test_a_malformed_answer_does_not_affect_the_rest_of_its_batch(tmp_path: Path, odd: Predicted) -> None:
    await check_odd_answer(tmp_path, odd)


@pytest.mark.parametrize("status", [0, 101, 204, 304, 999])
async def test_a_replica_cannot_choose_a_status_that_has_no_body(tmp_path: Path, status: int) -> None:
    """What follows such a status would be read as the next answer."""
    await check_odd_answer(tmp_path, Predicted(b'{"predictions":[]}', status))


async def check_odd_answer(folder: Path, odd: Predicted) -> None:
    async def answers(requests: list[Request]) -> list[Predicted]:
        return [odd if one.body == b'"odd"' else (await echo([one]))[0] for one in requests]

    async with gateway(folder, answers) as both:
        async with connected(both.protocol) as one, connected(both.protocol) as other:
            await asyncio.gather(one.send(request(b'"odd"')), other.send(request(b"[1]")))
            assert (await one.answer()).problem["code"] == "replica_protocol_error"
            assert (await other.answer()).echoed == [1]


# HTTP ------------------------------------------------------------------------------------------------------------------

CHUNKS = b"2\r\n[1\r\n3;x=y\r\n, 2\r\n1\r\n]\r\n0\r\n\r\n"
CHUNKED = request(CHUNKS, "Transfer-Encoding: chunked", length="")
STATUSES = {
    "blank lines first": ([200, 200], b"\r\n\r\n\r\n" + request()),
    "HTTP/1.0": ([200], request(version="1.0")),
    "close": ([200], request(b"[1]", "Connection: close")),
    "keep-alive": ([200, 200], request(b"[1]", "Connection: Keep-Alive")),
    "chunks": ([200, 200], CHUNKED),
    "a trailer": ([200, 200], CHUNKED[:-2] + b"X-Request-ID: x\r\n\r\n"),
    "expect": ([100, 200, 200], request(b"[1]", "Expect: 100-continue")),
    "an expectation of something else": ([417, 200], request(b"[1]", "Expect: nothing")),
    "get": ([405, 200], request(b"", method="GET", length="")),
    "an unknown method": ([400], request(b"[1]", method="PREDICT")),
    "padded length": ([200, 200], request(b"[1]", length=" \t3 \t")),
    "length with zeros": ([200, 200], request(b"[1]", length="0003")),
    "negative length": ([400], request(b"[1]", length="-3")),
    "signed length": ([400], request(b"[1]", length="+3")),
    "hexadecimal length": ([400], request(b"[1]", length="0x3")),
    "broken length": ([400], request(b"[1]", length="1 2")),
    "two lengths in one": ([400], request(b"[1]", length="3, 3")),
    "equal lengths": ([400], request(b"[1]", "Content-Length: 3")),
    "different lengths": ([400], request(b"[1]", "Content-Length: 2")),
    "length over 64 bits": ([400], request(b"[1]", length="9" * 30)),
    "length and chunks": ([400], request(CHUNKS, "Transfer-Encoding: chunked")),
    "chunks and length": ([400], request(CHUNKS, "Content-Length: 3", "Transfer-Encoding: chunked", length="")),
    "another coding": ([400], request(CHUNKS, "Transfer-Encoding: gzip", length="")),
    "coding after chunks": ([400], request(CHUNKS, "Transfer-Encoding: chunked, gzip", length="")),
    "coding with a vertical tab": ([400], request(CHUNKS, "Transfer-Encoding: \vchunked", length="3")),
    "bare line feeds": ([400], request().replace(b"\r\n", b"\n")),
    "one bare line feed": ([400], request(b"[1]", "X-A: 1\nX-B: 2")),
    "bare carriage return": ([400], request(b"[1]", "X-A: 1\rX-B: 2")),
    "folded line": ([400], request(b"[1]", "X-A: 1\r\n 2")),
    "space before the colon": ([400], request(b"[1]", "Content-Length : 3", length="")),
    "space in a name": ([400], request(b"[1]", "X A: 1")),
    "no name": ([400], request(b"[1]", ": 1")),
    "no colon": ([400], request(b"[1]", "nothing")),
    "null in a value": ([400], request(b"[1]", "X-A: a\0b")),
    "null in a name": ([400], request(b"[1]", "X\0A: 1")),
    "null in the target": ([400], request(b"[1]", path="/models/ir\0is/predict")),
    "space in the target": ([400], request(b"[1]", path="/models/ir is/predict")),
    "a target that is no address": ([400], request(b"[1]", path="http://[::1")),
    "HTTP/2's preface": ([400], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": ([400], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "another version": ([400], request(version="3.7")),
    "a broken chunk": (
        [400],
        request(b"zz\r\n", "Transfer-Encoding: chunked", length="", method="GET", path="/health"),
    ),
}


@pytest.mark.parametrize("door", ["protocol", "asgi"])
@pytest.mark.parametrize(("statuses", "sent"), STATUSES.values(), ids=STATUSES)
async def test_the_fast_path_and_asgi_parse_http_alike(
    doors: Gateway, door: str, statuses: list[int], sent: bytes
) -> None:
    """The request, and another behind it that is answered only if the first leaves the connection in order."""
    answers = await last_words(doors.port(door), sent, LAST)
    assert [answer.status for answer in answers] == statuses
    assert answers[-1].headers["connection"] == "close"


async def test_what_is_not_http_is_refused_with_a_problem(doors: Gateway) -> None:
    (answer,) = await last_words(doors.protocol, b"hello\r\n\r\n")
    assert answer.problem["code"] == "bad_input"


async def test_a_head_request_gets_no_body(doors: Gateway) -> None:
    for port in (doors.protocol, doors.asgi):
        async with connected(port) as client:
            await client.send(request(b"", "Connection: close", method="HEAD", length=""))
            await client.rest()
            assert client.received.startswith(b"HTTP/1.1 405 ")
            assert client.received.endswith(b"\r\n\r\n")


async def test_an_expectation_is_met_before_the_body_is_sent(doors: Gateway) -> None:
    whole = request(b"[1]", "Expect: 100-continue")
    async with connected(doors.protocol) as client:
        await client.send(whole[:-3])
        assert (await client.answer()).status == 100
        await client.send(b"[1]")
        assert (await client.answer()).echoed == [1]


async def test_many_requests_follow_each_other_on_one_connection(doors: Gateway) -> None:
    async with connected(doors.protocol) as client:
        for number in range(200):
            await client.send(HEALTH if number % 10 == 9 else request(b"[%d]" % number))
            answer = await client.answer()
            assert answer.body == b'{"status":"ok"}' if number % 10 == 9 else answer.echoed == [number]


async def test_pipelined_requests_are_answered_in_order_on_both_paths(doors: Gateway) -> None:
    stream = b"".join(HEALTH if number % 5 == 3 else request(b"[%d]" % number) for number in range(40))
    async with connected(doors.protocol) as client:
        await client.send(stream)
        answers = await client.answers(40)
    for number, answer in enumerate(answers):
        assert answer.body == b'{"status":"ok"}' if number % 5 == 3 else answer.echoed == [number]


async def test_a_byte_stream_may_be_split_anywhere(doors: Gateway) -> None:
    stream = request(b"[1]") + HEALTH + request(b"[2]")

    async def cut(at: int) -> None:
        async with connected(doors.protocol) as client:
            await client.send(stream[:at], stream[at:])
            first, second, third = await client.answers(3)
            assert (first.echoed, second.body, third.echoed) == ([1], b'{"status":"ok"}', [2])

    for at in range(0, len(stream), 32):
        await asyncio.gather(*(cut(each) for each in range(at, min(at + 32, len(stream)))))


async def test_a_request_may_come_byte_by_byte(doors: Gateway) -> None:
    async with connected(doors.protocol) as client:
        for _ in range(2):
            await client.send(*(bytes([each]) for each in request(b"[1, 2]")))
            assert (await client.answer()).echoed == [1, 2]


UNKNOWN = request(b"[1]", path="/models/none/predict")


@pytest.mark.parametrize(("one", "status"), [(HEALTH, 200), (UNKNOWN, 404)], ids=["by ASGI", "at the protocol"])
async def test_hundreds_of_pipelined_requests_are_answered_a_few_per_turn(
    doors: Gateway, one: bytes, status: int
) -> None:
    """Turns of the loop are counted meanwhile, in each of which another client would have had its own."""
    turns, most_ahead = 0, 0

    def turn() -> None:
        nonlocal turns, most_ahead
        turns += 1
        most_ahead = max([most_ahead, *(len(each.pipeline) for each in connections(doors))])
        watching[0] = asyncio.get_running_loop().call_soon(turn)

    async with connected(doors.protocol) as client:
        watching = [asyncio.get_running_loop().call_soon(turn)]
        await client.send(one * 1000 + LAST)
        answers = await client.rest()
        watching[0].cancel()
    assert [answer.status for answer in answers] == [status] * 1000 + [200]
    assert turns >= 1000 / HEADS_A_TURN - FEW_BYTES / len(one)
    assert most_ahead <= HEADS_A_TURN


async def test_no_more_pipelined_requests_are_read_than_are_answered(doors: Gateway) -> None:
    """Each segment is small enough not to be held back, and comes when an answer has made room for one request."""
    most_ahead = 0
    async with connected(doors.protocol) as client:
        await client.send(HEALTH * 5)
        for _ in range(100):
            await client.answer()
            await client.send(HEALTH * 5)
            most_ahead = max(most_ahead, len(connections(doors)[0].pipeline))
        await client.send(LAST)
        assert len(await client.rest()) == 506 - 100
    assert most_ahead <= FEW_BYTES / len(HEALTH)


async def test_a_client_that_is_still_sending_can_read_its_refusal(doors: Gateway) -> None:
    """A megabyte behind a head that is too large: the refusal arrives, and the connection ends in order."""
    async with connected(doors.protocol) as client:
        await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Large: %b" % (b"x" * HEAD_LIMIT_BYTES))
        await client.send(*[b"x" * 65536] * 16)
        (answer,) = await client.rest()
    assert answer.status == 431
    assert answer.ended
    assert not client.reset


async def test_nothing_is_answered_after_a_refusal(doors: Gateway) -> None:
    async with connected(doors.protocol) as client:
        await client.send(request(b"[1]"))
        assert (await client.answer()).status == 200
        await client.send(b"hello\r\n\r\n", request(b"[1]"), HEALTH)
        assert [answer.status for answer in await client.rest()] == [400]


async def test_an_invalid_request_does_not_replace_the_answer_to_the_one_before(tmp_path: Path) -> None:
    async with held(tmp_path) as (both, release):
        for wrong in (
            b"hello\r\n\r\n",
            request(b"[2]", "X A: 1"),
            request(b"zz\r\n", "Transfer-Encoding: chunked", length=""),
        ):
            release.clear()
            async with connected(both.protocol) as client:
                await client.send(request(b"[1]"), wrong)
                await eventually(lambda: [each.flow.read_paused for each in connections(both)] == [True])
                release.set()
                answer, *more = await client.rest()
                assert answer.echoed == [1]
                assert not more


# What is offered to be another protocol --------------------------------------------------------------------------------

OFFER = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)


@pytest.mark.parametrize("cut", [0, 1])
async def test_an_upgrade_offer_is_declined_and_the_body_stays_a_body(doors: Gateway, cut: int) -> None:
    """Java's client makes such an offer. uvicorn's parser would take the body for the next request."""
    inner = request(b"[666]")
    whole = request(inner, *OFFER)
    at = (len(whole) - len(inner)) * cut
    async with connected(doors.protocol) as client:
        await client.send(*([whole[:at], whole[at:]] if cut else [whole]), request(b"[2]"))
        first, second = await client.answers(2)
    assert inner in first.body
    assert second.echoed == [2]


@pytest.mark.parametrize(("version", "last"), [("1.0", "Connection: Upgrade"), ("1.1", "Connection: close, Upgrade")])
async def test_an_upgrade_offer_in_a_last_request_is_declined_too(doors: Gateway, version: str, last: str) -> None:
    for path, body in (("/models/iris/predict", b"[1]"), ("/health", b"ok")):
        sent = request(
            b"[1]", last, "Upgrade: h2c", path=path, version=version, method="GET" if body == b"ok" else "POST"
        )
        (answer,) = await last_words(doors.protocol, sent)
        assert answer.status == 200
        assert body in answer.body


@pytest.mark.parametrize("target", ["http://localhost", "http://localhost?x=/health", "*"])
async def test_a_target_without_a_path_is_refused_and_not_logged_as_a_defect(
    doors: Gateway, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    (answer,) = await last_words(doors.protocol, request(b"[1]", "Connection: close", path=target))
    assert answer.status in (400, 404)
    assert not caplog.records


async def test_a_tunnel_is_refused(doors: Gateway) -> None:
    for target in ("localhost:80", "/models/iris/predict"):
        (answer,) = await last_words(doors.protocol, request(b"", method="CONNECT", path=target) + HEALTH, HEALTH)
        assert answer.status == 400


async def test_headers_of_tracers_and_proxies_keep_a_request_on_the_fast_path(tmp_path: Path) -> None:
    async with gateway(tmp_path) as both:
        plain = [(b"host", b"localhost"), (b"content-length", b"3")]
        for name in sorted(PER_REQUEST):
            assert both.door.read_head(b"/models/iris/predict", [*plain, (name, b"1")], "127.0.0.1") is not None
        assert both.door.read_head(b"/models/iris/predict", [*plain, (b"x-unknown", b"1")], "127.0.0.1") is None


# What is remembered ----------------------------------------------------------------------------------------------------


async def test_only_complete_plain_heads_are_cached(tmp_path: Path) -> None:
    async with gateway(tmp_path, keys=["secret"]) as both:
        for sent in (
            request(b"[1]", KEY, "X-Request-ID: x"),
            request(b"[1]", KEY, TRACE),
            request(b"[1]", KEY, "X-Forwarded-For: 10.0.0.1"),
            request(b"[1]", KEY, "X-Unknown: 1"),
            request(b"[1]", "X-API-Key: wrong"),
            request(b"[1]", KEY, "User-Agent: " + "x" * 1024),
            b"\r\n" + request(b"[1]", KEY),
            request(b"[1]", KEY, *OFFER),
            CHUNKED,
        ):
            await ask(both.protocol, sent)
            assert not both.door.heads
        async with connected(both.protocol) as client:
            await client.send(request(b"[1]", KEY), request(b"[2]", KEY))
            await client.answers(2)
        assert list(both.door.heads) == [request(b"[1]", KEY)[:-3]]


async def test_a_cached_head_with_a_shorter_or_longer_body_is_parsed_normally(doors: Gateway) -> None:
    known = request(b"[1, 2]")
    head = known[: -len(b"[1, 2]")]
    async with connected(doors.protocol) as client:
        await client.send(known)
        assert (await client.answer()).echoed == [1, 2]
        await client.send(head, b"[3,", b" 4]")
        assert (await client.answer()).echoed == [3, 4]
        await client.send(head + b"[5,", b" 6]" + known)
        assert [answer.echoed for answer in await client.answers(2)] == [[5, 6], [1, 2]]
        await client.send(known + b"\r\n", known)
        assert [answer.echoed for answer in await client.answers(2)] == [[1, 2]] * 2
        await client.send(known + b"hello\r\n\r\n")
        answer, *_ = await client.rest()
        assert answer.echoed == [1, 2]


async def test_a_cached_head_inside_a_body_is_part_of_the_body(doors: Gateway) -> None:
    """The bytes are those of a request; where they stand, they are none."""
    inner = request(b"[7]")
    await ask(doors.protocol, inner)
    outer = request(inner)
    async with connected(doors.protocol) as client:
        await client.send(outer[: -len(inner)], inner, request(b"[8]"))
        first, second = await client.answers(2)
        assert inner in first.body
        assert second.echoed == [8]
        chunk = b"%x\r\n" % len(inner)
        await client.send(request(chunk, "Transfer-Encoding: chunked", length=""), inner, b"\r\n0\r\n\r\n")
        assert inner in (await client.answer()).body


async def test_a_revoked_key_is_refused_at_once_even_with_a_cached_head(tmp_path: Path) -> None:
    async with gateway(tmp_path, keys=["secret"]) as both:
        both.keys.add("key_1", hashlib.sha256(b"made").hexdigest())
        sent = request(b"[1]", "X-API-Key: made")
        async with connected(both.protocol) as client, connected(both.asgi) as other:
            for _ in range(2):
                await asyncio.gather(client.send(sent), other.send(sent))
                assert [(await one.answer()).status for one in (client, other)] == [200, 200]
            assert both.door.heads
            both.keys.remove("key_1")
            await asyncio.gather(client.send(sent), other.send(sent))
            assert [(await one.answer()).status for one in (client, other)] == [401, 401]
            await client.send(request(b"[1]", KEY))
            assert (await client.answer()).status == 200
        assert both.dispatcher.refusals == {"unauthorized": 2}


async def test_a_refused_key_is_accepted_once_it_is_created(tmp_path: Path) -> None:
    async with gateway(tmp_path) as both, connected(both.protocol) as client:
        sent = request(b"[1]", "X-API-Key: made")
        await client.send(sent)
        assert (await client.answer()).status == 200
        assert {head.caller for head in both.door.heads.values()} == {""}
        both.keys.add("key_1", hashlib.sha256(b"made").hexdigest())
        await client.send(sent)
        assert (await client.answer()).status == 200
        assert {head.caller for head in both.door.heads.values()} == {both.keys.known("made")}


async def test_a_cached_head_does_not_admit_another_key(keyed: Gateway) -> None:
    for key in ("Secret", "secret1", "secre", "secret\t1", "\xa0secret"):
        async with connected(keyed.protocol) as client:
            await client.send(request(b"[1]", KEY))
            assert (await client.answer()).status == 200
            await client.send(request(b"[1]", f"X-API-Key: {key}"))
            assert (await client.answer()).status == 401


# Bounds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [HEAD_LIMIT_BYTES, 4 * HEAD_LIMIT_BYTES])
@pytest.mark.parametrize("step", [1 << 20, 8_000])
@pytest.mark.parametrize("path", ["/models/iris/predict", "/health"])
async def test_a_head_over_the_limit_is_refused_whole_or_split(doors: Gateway, size: int, step: int, path: str) -> None:
    sent = request(b"[1]", "X-Long: " + "x" * size, path=path)
    answer = await answer_before_end(doors.protocol, [sent[at : at + step] for at in range(0, len(sent), step)])
    assert answer.problem["code"] == "head_too_large"


async def test_a_head_of_many_lines_or_a_long_target_is_refused_too(doors: Gateway) -> None:
    lines = [f"X-{number}: {'x' * 90}" for number in range(800)]
    assert (await ask(doors.protocol, request(b"[1]", *lines))).status == 431
    assert (await ask(doors.protocol, request(b"[1]", path="/" + "x" * HEAD_LIMIT_BYTES))).status == 431


async def test_trailers_are_limited_and_ignored(doors: Gateway) -> None:
    trailers = [b"X-%d: %b\r\n" % (number, b"x" * 4000) for number in range(200)]
    answer = await answer_before_end(doors.protocol, [CHUNKED[:-2], *trailers])
    assert answer.problem["code"] == "head_too_large"
    answer = await ask(doors.protocol, CHUNKED[:-2] + b"X-Request-ID: trailed\r\n\r\n")
    assert answer.headers["x-request-id"] != "trailed"


async def answer_before_end(port: int, segments: list[bytes]) -> Answer:
    """What the server says to a request whose end it does not wait for."""
    async with connected(port) as client:
        await send_until_closed(client, segments)
        answer, *_ = await client.rest()
        return answer


async def send_until_closed(client: Client, segments: Iterable[bytes], pause_seconds: float = 0) -> bool:
    """Whether the server closed the connection before all was sent."""
    try:
        for segment in segments:
            await client.send(segment)
            await asyncio.sleep(pause_seconds)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


async def test_a_big_body_before_another_request_is_not_taken_for_a_head(doors: Gateway) -> None:
    big = request(b'"%b"' % (b"x" * 100_000))
    async with connected(doors.protocol) as client:
        await client.send(big + big + request(b"[1]")[:40], request(b"[1]")[40:])
        assert [answer.status for answer in await client.answers(3)] == [200] * 3


async def test_a_body_over_the_limit_is_refused_and_the_connection_goes_on(doors: Gateway) -> None:
    async with connected(doors.protocol) as client:
        await client.send(request(b" " * (MAX_BODY_BYTES + 1)))
        assert (await client.answer()).problem["code"] == "too_large"
        await client.send(request(b"[1]"))
        assert (await client.answer()).echoed == [1]
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (MAX_BODY_BYTES + 1, b" " * (MAX_BODY_BYTES + 1))
        await client.send(request(chunk, "Transfer-Encoding: chunked", length=""))
        assert (await client.answer()).problem["code"] == "too_large"


@pytest.mark.parametrize(
    "sent",
    [
        b"P",
        request()[:30],
        request()[:-1],
        request(b"[1]", "X-Unknown: 1")[:-1],
        b"\r\n" + request()[:-1],
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n",
    ],
)
async def test_a_request_that_does_not_arrive_in_time_is_ended(tmp_path: Path, sent: bytes) -> None:
    async with gateway(tmp_path, receive_timeout_seconds=0.15) as both:
        (answer,) = await last_words(both.protocol, sent)
        assert answer.problem["code"] == "request_timeout"
        assert answer.headers["connection"] == "close"
        assert not both.lane.pending


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v2/models/iris/infer", {"error"}),
        ("/v1/models/iris:predict", {"error"}),
        ("/invocations?x=1", {"error_code", "message"}),
    ],
)
async def test_refusals_of_the_server_have_the_error_format_of_their_path(
    tmp_path: Path, path: str, keys: set[str]
) -> None:
    async with gateway(tmp_path, receive_timeout_seconds=0.15) as both:
        (late,) = await last_words(both.protocol, request(b"", path=path)[:-2])  # without its blank line
        (large,) = await last_words(both.protocol, request(b"", f"X-Large: {'x' * HEAD_LIMIT_BYTES}", path=path))
    for answer, status in ((late, 408), (large, 431)):
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"]
        assert json.loads(answer.body).keys() == keys


async def test_a_slowly_dripping_request_times_out_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, receive_timeout_seconds=0.15) as both:
        async with connected(both.protocol) as client:
            assert await send_until_closed(client, (bytes([byte]) for byte in request(b" " * 500)), 0.005)
            (answer,) = await client.rest()
    assert answer.status == 408


async def test_an_answer_is_not_followed_by_a_timeout(tmp_path: Path) -> None:
    """The rest of a body that was refused early never comes: nothing more is said, as it would be the next answer."""
    async with gateway(tmp_path, receive_timeout_seconds=0.15) as both:
        (answer,) = await last_words(both.protocol, request(length=str(MAX_BODY_BYTES + 1)))
    assert answer.status == 413


async def test_a_slow_answer_does_not_delay_the_deadline_of_the_next_request(tmp_path: Path) -> None:
    async with held(tmp_path, receive_timeout_seconds=0.1) as (both, release):
        async with connected(both.protocol) as client:
            await client.send(request(b"[1]") + request(b"[2]")[:-1])
            await asyncio.sleep(0.3)
            release.set()
            await client.send(b"]")
            assert [answer.echoed for answer in await client.answers(2)] == [[1], [2]]


async def test_an_idle_connection_is_closed_and_a_waiting_one_is_not(tmp_path: Path) -> None:
    async with held(tmp_path, keep_alive_seconds=0.1) as (both, release):
        async with connected(both.protocol) as waiting:
            await waiting.send(request(b"[1]"))
            assert not await last_words(both.protocol)
            assert not await last_words(both.protocol, b"\r\n\r\n")
            await asyncio.sleep(0.3)
            release.set()
            assert (await waiting.answer()).echoed == [1]
            await waiting.send(request(b"[2]"))
            assert (await waiting.answer()).echoed == [2], "no sooner closed than it was answered"
            assert not await waiting.rest()


async def test_blank_lines_do_not_keep_a_connection_open(tmp_path: Path) -> None:
    async with gateway(tmp_path, keep_alive_seconds=0.1) as both:
        async with connected(both.protocol) as client:
            assert await send_until_closed(client, [b"\r\n"] * 500, 0.01)


@pytest.mark.parametrize("sent", [request(b'"%b"' % (b"x" * 50_000)), request(), request(b"[1]", "X-Unknown: 1")])
async def test_a_client_that_does_not_read_its_answers_is_paused_and_then_disconnected(
    tmp_path: Path, sent: bytes
) -> None:
    answers: list[int] = []

    async def long(requests: list[Request]) -> list[Predicted]:
        answers.append(len(requests))
        return [Predicted(b'{"predictions":["%b"]}' % (b"x" * 200_000)) for _ in requests]

    async with gateway(tmp_path, long, keep_alive_seconds=0.15, receive_timeout_seconds=0.3) as both:
        async with connected(both.protocol) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await send_until_closed(client, [sent] * 1000)
            await eventually(lambda: not connections(both))
        assert len(answers) < 200


# Ends ------------------------------------------------------------------------------------------------------------------


async def test_a_disconnected_client_leaves_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with held(tmp_path, flow=QueueSettings(8, 8, 10.0, 20.0, 20.0)) as (both, release):
        async with connected(both.protocol) as other:
            await other.send(request(b"[0]"))
            await eventually(lambda: both.replica.batches == [1])
            for sent in (b"", b"POST /mod", request()[:60], request()[:-1], request()):
                async with connected(both.protocol) as client:
                    await eventually(lambda: len(connections(both)) == 2)
                    await client.send(sent)
                await eventually(lambda: len(connections(both)) == 1)
            await eventually(lambda: both.lane.queued == 0)
            release.set()
            assert (await other.answer()).echoed == [0]
        assert (await ask(both.protocol, request(b"[1]"))).echoed == [1]
    assert both.replica.batches == [1, 1], "nothing was computed for those who had gone"
    assert not caplog.records


async def test_shutdown_answers_requests_in_flight_and_closes(tmp_path: Path) -> None:
    async with held(tmp_path) as (both, release):
        async with connected(both.protocol) as one, connected(both.protocol) as ahead, connected(both.protocol) as idle:
            await one.send(request(b"[1]"))
            await ahead.send(request(b"[2]") + HEALTH)
            await eventually(lambda: both.lane.pending == 2)
            stopping = asyncio.create_task(both.server.shutdown())
            assert not await idle.rest()
            release.set()
            (answer,) = await one.rest()
            first, second = await ahead.rest()
            await stopping
    assert (answer.echoed, answer.headers["connection"]) == ([1], "close")
    assert (first.echoed, second.body, second.headers["connection"]) == ([2], b'{"status":"ok"}', "close")


async def test_shutdown_receives_the_rest_of_a_body(tmp_path: Path) -> None:
    async with gateway(tmp_path) as both:
        async with connected(both.protocol) as client:
            await client.send(request(b"[1]")[:-1])
            await eventually(lambda: [each.cycle is not None for each in connections(both)] == [True])
            stopping = asyncio.create_task(both.server.shutdown())
            await asyncio.sleep(0)
            await client.send(b"]")
            (answer,) = await client.rest()
            await stopping
    assert (answer.echoed, answer.headers["connection"]) == ([1], "close")
