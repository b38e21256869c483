"""The event loop stays awake for who asks one request after another, and for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from app.dispatch.busy_poll import SPIN_SECONDS, BusyPoll

SOON, LATER = SPIN_SECONDS / 2, SPIN_SECONDS * 2

pytestmark = pytest.mark.anyio


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def stirred(*gaps: float) -> tuple[BusyPoll, Clock]:
    clock = Clock()
    wakefulness = BusyPoll(asyncio.get_running_loop(), clock)
    wakefulness.stir(clock.now)
    for gap in gaps:
        clock.now += gap
        wakefulness.stir(clock.now)
    return wakefulness, clock


async def test_a_single_request_does_not_start_busy_polling() -> None:
    assert not (await stirred())[0].awake
    assert not (await stirred(LATER, LATER))[0].awake


async def test_a_request_soon_after_another_starts_busy_polling_for_a_limited_time() -> None:
    wakefulness, clock = await stirred(SOON)
    await turns()
    assert wakefulness.awake
    clock.now += LATER
    await turns()
    assert not wakefulness.awake


async def test_each_further_request_extends_busy_polling() -> None:
    wakefulness, clock = await stirred(SOON)
    for _ in range(5):
        clock.now += SPIN_SECONDS * 0.9
        wakefulness.stir(clock.now)
        await turns()
        assert wakefulness.awake
    clock.now += LATER
    await turns()
    assert not wakefulness.awake


async def test_busy_polling_ends_by_the_real_clock() -> None:
    loop = asyncio.get_running_loop()
    wakefulness = BusyPoll(loop)
    now = loop.time()
    wakefulness.stir(now)
    wakefulness.stir(now)
    assert wakefulness.awake
    async with asyncio.timeout(10):
        while wakefulness.awake:
            await asyncio.sleep(0.001)
