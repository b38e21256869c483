"""Says whether a replica may be tried, from what happened to the last requests sent there."""

from __future__ import annotations

from enum import StrEnum

FAILURES_TO_OPEN = 5
"""Consecutive failures after which a replica is left alone; the figure of Envoy's outlier detection."""

OPEN_SECONDS = 1.0
"""How long it is left alone before one batch may try it again."""


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """closed → (5 failures in a row, or a trip) → open → (1 s) → half-open: one trial → closed or open again.

    Times are seconds of a monotonic clock, given by the caller.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._opened_at: float | None = None
        self._trial = False

    def state(self, now: float) -> State:
        if self._opened_at is None:
            return State.CLOSED
        return State.HALF_OPEN if now - self._opened_at >= OPEN_SECONDS else State.OPEN

    def allows(self, now: float) -> bool:
        if self._opened_at is None:
            return True
        state = self.state(now)
        return state is State.HALF_OPEN and not self._trial

    def begin(self) -> None:
        """A batch goes out; in half-open it is the one trial."""
        self._trial = self._opened_at is not None

    def succeed(self) -> None:
        self._failures = 0
        self._opened_at = None
        self._trial = False

    def fail(self, now: float) -> None:
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN or self._opened_at is not None:
            self.trip(now)

    def trip(self, now: float) -> None:
        """Open at once: what happened leaves no doubt (silence, a lost connection)."""
        self._opened_at = now
        self._trial = False
