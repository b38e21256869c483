"""Keeps the event loop awake where that is quicker than being woken.

A client that asks one request after another, alone, has the gateway put to sleep and woken twice for each: until the
replica answers, and until the next request comes. Where both take microseconds, waking takes longer than they do, and
what it costs the processor (caches gone cold, another core to be woken) is about what staying awake costs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic

SPIN_SECONDS = 0.0004
"""After a lone request, and only if the one before it was no longer ago: who asks less often is not waited for."""


class BusyPoll:
    """Of one event loop. clock: in seconds, as `stir` is told."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._last = -SPIN_SECONDS
        self._until = 0.0
        self.awake = False

    def stir(self, now: float) -> None:
        """A request goes out alone."""
        soon = now - self._last < SPIN_SECONDS
        self._last = now
        if soon:
            self._until = now + SPIN_SECONDS
            if not self.awake:
                self.awake = True
                self._loop.call_soon(self._stay)

    def _stay(self) -> None:
        """Once in each turn of the loop, which does not sleep while something is to be called."""
        if self._clock() < self._until:
            os.sched_yield()  # who has something to do goes first
            self._loop.call_soon(self._stay)
        else:
            self.awake = False
