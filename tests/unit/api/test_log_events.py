from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.log_events import OPENING, WAITING_MAX, events
from app.errors import TargetUnavailable
from app.runtime.logs.reader import LogLine


async def said(lines: AsyncIterator[LogLine], **more: Any) -> list[bytes]:
    stream = events(lines, asyncio.Event(), lambda: "stopped", **more)
    return b"".join([chunk async for chunk in stream]).split(b"\n\n")


async def some(count: int) -> AsyncIterator[LogLine]:
    for number in range(count):
        yield LogLine(f"line {number}", str(number))


async def test_lines_gaps_and_the_end_are_events_and_lines_have_ids() -> None:
    async def lines() -> AsyncIterator[LogLine]:
        yield LogLine("", "0", "place")
        yield LogLine("one\rtwo", "1")
        yield LogLine("3 bytes are gone", "2", "gap")

    assert await said(lines()) == [
        OPENING.rstrip(),
        b"event: place\ndata: \nid: 0",
        b"data: one\ndata: two\nid: 1",
        b"event: gap\ndata: 3 bytes are gone\nid: 2",
        b"event: end\ndata: stopped",
        b"",
    ]


async def test_the_time_of_a_line_precedes_it_if_asked_for() -> None:
    async def lines() -> AsyncIterator[LogLine]:
        yield LogLine("one", "1", time="2026-01-02T03:04:05.678901234Z")
        yield LogLine("of an earlier log", "2")

    assert (await said(lines(), timestamps=True))[1:3] == [
        b"data: 2026-01-02T03:04:05.678901234Z one\nid: 1",
        b"data: of an earlier log\nid: 2",
    ]
    assert (await said(lines()))[1] == b"data: one\nid: 1"


async def test_many_lines_are_delivered_completely_and_in_order() -> None:
    count = WAITING_MAX * 3 + 1
    found = await said(some(count))
    assert [event.split(b"\n")[0] for event in found[1:-2]] == [
        f"data: line {number}".encode() for number in range(count)
    ]


async def test_keep_alive_events_are_sent_while_the_log_is_silent() -> None:
    async def lines() -> AsyncIterator[LogLine]:
        await asyncio.sleep(60)
        yield LogLine("late", "1")

    stream = events(lines(), asyncio.Event(), lambda: "live", 0.001)
    assert [await anext(stream) for _ in range(3)][1:] == [b"event: alive\ndata: \n\n"] * 2
    await stream.aclose()  # type: ignore[attr-defined]


async def test_reading_ahead_waits_for_a_slow_client_and_ends_when_it_leaves() -> None:
    read = ended = 0

    async def lines() -> AsyncIterator[LogLine]:
        nonlocal read, ended
        try:
            while True:
                read += 1
                yield LogLine("more", str(read))
        finally:
            ended += 1

    stream = events(lines(), asyncio.Event(), lambda: "live")
    await anext(stream)
    await anext(stream)
    before = read
    for _ in range(20):
        await asyncio.sleep(0)
    assert read - before <= WAITING_MAX
    await stream.aclose()  # type: ignore[attr-defined]
    assert ended == 1


async def test_when_the_server_ends_the_stream_says_so() -> None:
    closing = asyncio.Event()

    async def lines() -> AsyncIterator[LogLine]:
        yield LogLine("one", "1")
        closing.set()
        await asyncio.Event().wait()

    assert [chunk async for chunk in events(lines(), closing, lambda: "live")][-1] == b"event: end\ndata: closing\n\n"


async def test_a_log_that_cannot_be_read_any_more_says_why() -> None:
    async def lines() -> AsyncIterator[LogLine]:
        yield LogLine("one", "1")
        raise TargetUnavailable("No Docker engine answers.", hint="Start it.")

    assert (await said(lines()))[-3:-1] == [
        b"event: problem\ndata: No Docker engine answers. Start it.",
        b"event: end\ndata: stopped",
    ]


async def test_an_unexpected_error_is_not_swallowed() -> None:
    async def lines() -> AsyncIterator[LogLine]:
        yield LogLine("one", "1")
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await said(lines())
