"""Which of the replicas that run a gateway takes over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from model_container.contract import frames
from tests.fakes import FakeReplica
from tests.unit.lifecycle.house_lab import House, house_again

HELD_UP_SECONDS = 2


async def test_a_briefly_delayed_replica_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = House(tmp_path)
    await home.live("a" * 12)
    await home.dispatcher.close()  # killed: nothing else is put in order
    answer, waits = FakeReplica._answer, iter([HELD_UP_SECONDS])

    async def late(fake: FakeReplica, frame: frames.Frame, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(next(waits, 0))
        await answer(fake, frame, writer)

    monkeypatch.setattr(FakeReplica, "_answer", late)
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert next(waits, None) is None, "it was held up"
        assert home.target.events.count("start") == 1
        assert await home.predict("iris") == 200
