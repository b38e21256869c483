"""Compares the answers of shadows with production's in the background, without keeping the event loop from requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

import structlog

from app.core.rollout.agreement import AgreementTally, compare_pair
from app.core.rollout.records import ShadowPair
from app.lifecycle.state import utc_now

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.05
BUDGET_SECONDS = 0.002
"""How long the comparisons of one tick may keep the event loop, but for the one that is under way."""

LARGE_BYTES = 8192
"""A pair of more bytes is compared in a thread: it may take longer than the budget."""

REST = 9
"""After each tick, the comparisons rest so many times as long as they took: they get a tenth of a core at most."""

TakePairs = Callable[[str], list[ShadowPair]]


class Comparer:
    """The pairs of one shadow that wait to be compared, and what was found.

    New ones are taken only when the last ones are compared. Meanwhile they wait where their bounds are kept, so there
    are at most twice as many as the bounds allow.
    """

    def __init__(self, name: str, take: TakePairs) -> None:
        self.tally = AgreementTally()
        self.since = utc_now()
        self._name = name
        self._take = take
        self._waiting: deque[ShadowPair] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def tick(self) -> None:
        """Compare some pairs: small ones until the budget is used, or one large one in a thread."""
        if not self._waiting:
            self._waiting.extend(self._take(self._name))
        begun = perf_counter()
        while self._waiting and perf_counter() - begun < BUDGET_SECONDS:
            pair = self._waiting.popleft()
            if pair.size_bytes > LARGE_BYTES:
                self.tally.add(pair, await asyncio.to_thread(compare_pair, pair), utc_now())
                return
            self.tally.add(pair, compare_pair(pair), utc_now())


async def compare_forever(comparers: Callable[[], list[Comparer]], news: asyncio.Event) -> None:
    """Compare what the shadows answer, one after another, while there are any. news: set when one begins."""
    while True:
        await news.wait()
        present = comparers()
        if not present:
            news.clear()
            continue
        begun = perf_counter()
        for comparer in present:
            try:
                await comparer.tick()
            except Exception:  # a fault in one must not end the comparisons of all others
                log.exception("answers of a shadow could not be compared")
        await asyncio.sleep(max(TICK_SECONDS, REST * (perf_counter() - begun)))
