"""How long a model usually takes, from its answers; this reveals a replica that is held up by its current batch."""

from __future__ import annotations

FADING = 0.99
"""Factor by which the slowest answer fades with each further batch, so that a single outlier is forgotten."""

FACTOR = 4.0
HELD_UP_SECONDS = 1.0


class Pace:
    """The pace of one model across all its replicas. Times are in seconds."""

    def __init__(self) -> None:
        self._slowest = 0.0

    def note(self, seconds: float) -> None:
        """Record how long each request of an answered batch took."""
        slowest = self._slowest * FADING
        self._slowest = seconds if seconds > slowest else slowest  # faster than max()

    def is_held_up(self, age: float, requests: int) -> bool:
        """Return whether a batch takes far longer than any before it; False before the first answer."""
        return bool(self._slowest) and age >= max(HELD_UP_SECONDS, FACTOR * requests * self._slowest)
