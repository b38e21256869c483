"""How long a candidate may take: the bound, and the clock that finds what is over it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from app.core.rollout.latency import latency_bound
from app.dispatch.batch import Lane

OVERDUE_MIN_SECONDS = 0.05
"""A derived bound below this makes answers slow but not overdue: a pause of the garbage collector or of the host is no
reason to ask another version.
"""

SHARE_OF_TIMEOUT = 0.5
"""An answer is overdue after this share of the timeout at the latest, so that the rest of it is left for a rescue."""

DERIVED_EACH_SECONDS = 1.0
TRIED_EACH_SECONDS = 0.1
"""How often the bound is derived again, and how often it is tried while there are too few answers."""


class Timed(Protocol):
    """Something that is overdue at `due`, in monotonic seconds, unless it is discarded before."""

    due: float

    def pass_due(self) -> None: ...


class OverdueClock:
    """One timer for everything that a candidate is working on, in the order in which it was sent."""

    def __init__(self) -> None:
        self._timed: dict[Timed, None] = {}  # keeps the order, and forgets one in no time
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._timed)

    def add(self, timed: Timed) -> None:
        self._timed[timed] = None
        if self._timer is None:
            self._arm(timed.due)

    def discard(self, timed: Timed) -> None:
        self._timed.pop(timed, None)

    def hasten(self, due: float) -> None:
        """Make everything overdue at `due` at the latest."""
        for timed in self._timed:
            timed.due = min(timed.due, due)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timed:
            self._arm(min(timed.due for timed in self._timed))

    def _arm(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, due - monotonic()), self._look)

    def _look(self) -> None:
        """Pass on what is overdue now. One that is due earlier than one before it waits for that: for a copy at most."""
        self._timer = None
        now = monotonic()
        overdue = []
        for timed in self._timed:
            if timed.due > now:
                self._arm(timed.due)
                break
            overdue.append(timed)
        for timed in overdue:
            self.discard(timed)
            timed.pass_due()


class Lateness:
    """The bounds for the answers of a candidate, renewed while it is asked.

    clock: of what is in flight; what was sent under a longer bound is overdue no later than what is sent under this one.
    slow_seconds: above this, an answer counts as slow. overdue_seconds: above this, it is asked of the stable version.
    """

    def __init__(self, candidate: Lane, stable: Lane, given_seconds: float | None, clock: OverdueClock) -> None:
        self.clock = clock
        self._stable = stable
        self._most = min(candidate.flow.timeout_seconds, stable.flow.timeout_seconds) * SHARE_OF_TIMEOUT
        self._is_given = given_seconds is not None
        self._renew_at = float("-inf")
        self.slow_seconds = self.overdue_seconds = (
            self._most if given_seconds is None else min(given_seconds, self._most)
        )

    def renew(self, now: float) -> None:
        """Derive the bounds again, unless they were given or it was done a moment ago."""
        if self._is_given or now < self._renew_at:
            return
        latency = self._stable.tally.latency
        bound = latency_bound(latency.bounds, latency.counts)
        self._renew_at = now + (TRIED_EACH_SECONDS if bound is None else DERIVED_EACH_SECONDS)
        self.slow_seconds = self._most if bound is None else min(bound, self._most)
        before = self.overdue_seconds
        self.overdue_seconds = min(max(self.slow_seconds, OVERDUE_MIN_SECONDS), self._most)
        if self.overdue_seconds < before:
            self.clock.hasten(now + self.overdue_seconds)
