"""The load generator against small real servers: what it sends, what it counts, and from when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism.errors import ConnectionFailed, InvalidRequest
from prism.load import Latencies, load
from prism.load.response import BadResponse, ResponseReader

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n3\r\nabc\r\n0\r\nTrailer: t\r\n\r\n"
RESPONSES = [
    (OK, 200),
    (CHUNKED, 503),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server on loopback that hands each whole request to `answer`; its URL.

    It ends after its conversations: one that the loop's end cancels is reported as an error of its protocol.
    """
    conversations: set[asyncio.Task[None] | None] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(asyncio.current_task())
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await answer(head + await reader.readexactly(length), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/models/iris/predict?probabilities=true"
        deadline = asyncio.get_running_loop().time() + 20
        while not all(task is None or task.done() for task in conversations):
            assert asyncio.get_running_loop().time() < deadline, "a client keeps its connection"
            await asyncio.sleep(0.001)


def always(response: bytes) -> Answer:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    return answer


def counted(count: int, answer: Answer) -> tuple[Answer, asyncio.Event]:
    """That answer, and what is set once it was given so often: it ends a run however slow the machine is."""
    given, enough = 0, asyncio.Event()

    async def counting(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal given
        await answer(request, writer)
        given += 1
        if given == count:
            enough.set()

    return counting, enough


@pytest.mark.parametrize(("response", "status"), RESPONSES)
def test_a_response_is_read_the_same_however_it_arrives(response: bytes, status: int) -> None:
    for size in (1, 2, 3, 7, len(response)):
        reader = ResponseReader()
        pieces = [response[begin : begin + size] for begin in range(0, len(response), size)]
        assert [reader.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert (reader.status, reader.keep_alive) == (status, True)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"more",
        CHUNKED + b"more",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_an_invalid_response_is_reported_as_invalid(response: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader().feed(response)


def test_a_response_without_a_length_ends_with_its_connection() -> None:
    reader = ResponseReader()
    assert not reader.feed(b"HTTP/1.1 200 OK\r\n\r\n{}")
    assert reader.end()
    assert not reader.keep_alive
    counted = ResponseReader()
    assert not counted.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
    assert not counted.end()


@given(st.lists(st.floats(1e-6, 100), min_size=1), st.floats(0.1, 100))
def test_percentiles_are_those_of_the_sorted_list_but_for_a_bucket(seconds: list[float], percent: float) -> None:
    latencies = Latencies()
    for each in seconds:
        latencies.record(each)
    rank = max(1, -int(-len(seconds) * percent // 100))
    assert latencies.percentile(percent) == pytest.approx(sorted(seconds)[rank - 1], rel=0.005)
    assert latencies.percentile(100) == pytest.approx(latencies.max, rel=0.005)
    assert latencies.mean == pytest.approx(sum(seconds) / len(seconds))


def test_latencies_of_nothing_are_zero_and_merge_with_others() -> None:
    some = Latencies()
    some.record(0.5)
    some.record(0.0)
    merged = Latencies.merged([Latencies(), some, some])
    assert (Latencies().percentile(99), Latencies().mean) == (0, 0)
    assert (merged.count, merged.max) == (4, 0.5)


async def test_a_closed_loop_sends_every_body_in_turn_and_keeps_its_connections() -> None:
    seen: list[bytes] = []
    clients = set()

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        clients.add(writer.get_extra_info("peername"))
        writer.write(OK)

    answers, enough = counted(60, answer)
    async with serving(answers) as url:
        result = await load(url, [b"[1]", b"[22]"], connections=3, seconds=60, headers={"X-API-Key": "k"}, stop=enough)
    assert seen[0].startswith(b"POST /models/iris/predict?probabilities=true HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-API-Key: k\r\n" in seen[0]
    assert b"\r\nContent-Length: 3\r\n\r\n[1]" in seen[0]
    assert abs(sum(b"[22]" in each for each in seen) - len(seen) / 2) < 3
    assert len(clients) == result.connections == 3
    assert result.successes == len(seen) > 10
    assert result.successes_per_second == pytest.approx(result.answers_per_second)
    assert (result.failed, result.unanswered, result.unsent) == (0, 0, 0)
    assert result.received_bytes == len(OK) * len(seen)
    assert result.sent_bytes == sum(map(len, seen))


async def test_an_open_loop_sends_at_its_rate_and_no_faster() -> None:
    times: list[float] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        times.append(monotonic())
        writer.write(OK)

    async with serving(answer) as url:
        result = await load(url, [b"{}"], connections=4, seconds=0.5, rate=200)
    times.append(monotonic())
    stood_still = max(later - earlier for earlier, later in pairwise(times))
    assert result.successes + result.unsent == pytest.approx(100, abs=2)
    assert result.unsent <= 1 + 200 * stood_still, "no more than what was due while the machine did something else"


async def test_a_stall_shows_in_the_latency_of_all_that_were_due_meanwhile() -> None:
    stalled = False

    async def stall_once(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal stalled
        if not stalled:
            stalled = True
            await asyncio.sleep(0.3)
        writer.write(OK)

    answers, enough = counted(60, stall_once)
    async with serving(answers) as url:
        result = await load(url, [b"{}"], connections=1, seconds=60, rate=100, stop=enough)
    good = result.answers[200]
    assert good.latency.percentile(75) > 0.05
    assert good.response.percentile(90) < 0.05 < 0.25 < good.response.max


async def test_answers_are_counted_by_status_and_the_good_ones_timed() -> None:
    number = 0

    async def every_other(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        writer.write(CHUNKED if number % 2 else OK)

    answers, enough = counted(20, every_other)
    async with serving(answers) as url:
        result = await load(url, [b"{}"], connections=2, seconds=60, stop=enough)
    assert set(result.answers) == {200, 503}
    assert result.successes == result.answers[200].count == result.latency.count
    assert result.failed == result.answers[503].count > 0
    assert result.successes_per_second < result.answers_per_second


async def test_a_server_that_closes_each_connection_is_connected_to_anew() -> None:
    async def answer_and_close(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    answers, enough = counted(10, answer_and_close)
    async with serving(answers) as url:
        result = await load(url, [b"{}"], connections=2, seconds=60, stop=enough)
    assert result.successes > 4
    assert result.failed == 0


async def test_lost_connections_are_failures_with_a_reason() -> None:
    async def hang_up(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    answers, enough = counted(5, hang_up)
    async with serving(answers) as url:
        result = await load(url, [b"{}"], connections=2, seconds=60, stop=enough)
    assert result.successes == 0
    assert result.failures["the connection was lost before the answer"] == result.failed > 1


async def test_what_is_never_answered_is_counted_once_the_patience_ends() -> None:
    number, stop = 0, asyncio.Event()

    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        if number == 2:
            asyncio.get_running_loop().call_later(0.1, stop.set)

    async with serving(silent) as url:
        result = await load(url, [b"{}"], connections=2, seconds=60, grace_seconds=0.1, rate=100, stop=stop)
    assert result.unanswered == 2
    assert result.unsent == pytest.approx(100 * result.seconds - 2, abs=2)


async def test_a_run_can_be_stopped_early() -> None:
    answers, enough = counted(10, always(OK))
    async with serving(answers) as url:
        result = await load(url, [b"{}"], connections=1, seconds=60, stop=enough)
    assert result.interrupted
    assert result.seconds < 30
    assert result.successes >= 10


async def test_no_server_and_no_url_are_told_apart(closed_port: int) -> None:
    with pytest.raises(ConnectionFailed, match="accepted 0 connections"):
        await load(f"http://127.0.0.1:{closed_port}/", [b"{}"], seconds=0.1)
    with pytest.raises(InvalidRequest, match="is not an http"):
        await load("ftp://127.0.0.1/", [b"{}"])
