"""Says whether a replica may be tried, from what happened to the last requests sent there."""

from __future__ import annotations

from enum import StrEnum

FAILURES_TO_ASK = 5
"""Batches in a row that failed, after which the model's own sample is asked; the figure of Envoy's outlier detection."""

OPEN_SECONDS = 1.0
"""Time for which a replica is left alone before its sample is asked again."""


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """The circuit breaker of one replica.

    closed → (its sample fails, or a trip) → open → (1 s) → half-open: its sample is asked → closed or open again.

    Requests that fail never open it by themselves: whoever sends them would take the model from everybody. They only
    make it due that the sample is asked. Times are seconds of a monotonic clock, given by the caller.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def is_closed(self) -> bool:
        return self._opened_at is None

    def state(self, now: float) -> State:
        if self._opened_at is None:
            return State.CLOSED
        return State.HALF_OPEN if now - self._opened_at >= OPEN_SECONDS else State.OPEN

    def succeed(self) -> None:
        self._failures = 0
        self._opened_at = None

    def fail(self) -> bool:
        """Count a batch that failed; True once it is due that the sample decides."""
        self._failures += 1
        return self._failures >= FAILURES_TO_ASK

    def trip(self, now: float) -> None:
        """Open at once: what happened leaves no doubt (the sample failed, silence, a lost connection)."""
        self._failures = 0
        self._opened_at = now
