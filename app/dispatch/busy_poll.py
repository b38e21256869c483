"""Keeps the event loop awake where that is faster than being woken.

For a client that sends one request after another, alone, the gateway goes to sleep twice for each request: until the
replica answers, and until the next request comes. Where both take microseconds, waking takes longer than they do. What
waking costs the processor (cold caches, another core to be woken) is about what staying awake costs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic

SPIN_SECONDS = 0.0004
"""How long the loop stays awake after a lone request, and only if the one before was at most this long ago: no time is
spent on a client that asks less often.
"""


class BusyPoll:
    """The busy polling of one event loop. clock: returns seconds, on the same clock as the `now` of `stir`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._last = -SPIN_SECONDS
        self._until = 0.0
        self.awake = False

    def stir(self, now: float) -> None:
        """Note that a request goes out alone, and keep the loop awake if the last one was a moment ago."""
        soon = now - self._last < SPIN_SECONDS
        self._last = now
        if soon:
            self._until = now + SPIN_SECONDS
            if not self.awake:
                self.awake = True
                self._loop.call_soon(self._stay)

    def _stay(self) -> None:
        """Reschedule itself in each turn of the loop, which does not sleep while a callback is due."""
        if self._clock() < self._until:
            os.sched_yield()  # let a process that has work run first
            self._loop.call_soon(self._stay)
        else:
            self.awake = False
