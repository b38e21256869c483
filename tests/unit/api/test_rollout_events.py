from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

from app.api.log_events import OPENING
from app.api.rollout_documents import rollout_document
from app.api.rollout_events import rollout_events
from app.core.rollout.records import Rollout
from tests.unit.lifecycle.rollouts.canaries_lab import Lab, lab


def stream_of(made: Lab, rollout: Rollout, after: int, closing: asyncio.Event) -> AsyncIterator[bytes]:
    canaries = made.canaries
    return rollout_events(
        canaries, rollout.id, after, closing, lambda now: rollout_document(now, canaries.seen(now)), 0.001
    )


async def said(stream: AsyncIterator[bytes], until: bytes) -> list[bytes]:
    """The events until one of a name, that one included."""
    found: list[bytes] = []
    async for event in stream:
        found.append(event)
        if event.startswith(b"event: " + until):
            return found
    raise AssertionError(found)


async def test_what_happened_what_is_seen_and_the_end_are_events(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        stream = stream_of(made, rollout, 0, asyncio.Event())
        opening, begun, step, progress = await said(stream, b"progress")
        assert opening == OPENING
        assert begun.startswith(b"event: pending")
        assert b"\nid: 2\n" in step
        shown = json.loads(progress.split(b"data: ")[1])
        assert (shown["state"], shown["percentage"], shown["evidence"]["answers"]) == ("running", 25.0, 0)
        assert shown["missing"].startswith("no evidence")
        await made.canaries.roll_back(rollout.id)
        assert (await said(stream, b"rolled_back"))[-1].endswith(b"id: 3\n\n")
        assert [event async for event in stream] == [b"event: end\ndata: rolled_back\n\n"]


async def test_a_client_that_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        _, *found = await said(stream_of(made, rollout, 1, asyncio.Event()), b"progress")
        assert [event.split(b"\n")[0] for event in found] == [b"event: step", b"event: progress"]


async def test_the_end_of_the_server_and_a_database_that_is_away_are_told(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout, closing = await made.begin(), asyncio.Event()
        closing.set()
        assert (await said(stream_of(made, rollout, 0, closing), b"end"))[-1] == b"event: end\ndata: closing\n\n"
        made.store.away = True
        last = (await said(stream_of(made, rollout, 0, asyncio.Event()), b"problem"))[-1]
        assert b"The database does not answer." in last
