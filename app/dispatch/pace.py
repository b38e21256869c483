"""How long a model takes, as far as its answers tell: what says that a replica is held up by what it works on."""

from __future__ import annotations

FADING = 0.99
"""What the slowest answer still counts for after one batch more, so that a single odd one is forgotten."""

FACTOR = 4.0
HELD_UP_SECONDS = 1.0


class Pace:
    """Of one model, on all its replicas. Times are seconds."""

    def __init__(self) -> None:
        self._slowest = 0.0

    def note(self, seconds: float) -> None:
        """What each request of a batch took that was answered."""
        slowest = self._slowest * FADING
        self._slowest = seconds if seconds > slowest else slowest  # quicker than max()

    def is_held_up(self, age: float, requests: int) -> bool:
        """Whether a batch takes far longer than any before it; never known before the first answer."""
        return bool(self._slowest) and age >= max(HELD_UP_SECONDS, FACTOR * requests * self._slowest)
