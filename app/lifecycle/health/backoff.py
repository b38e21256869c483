"""How long a lost replica has to wait for its next start."""

from __future__ import annotations

from msgspec import Struct

BACKOFF_FIRST_SECONDS = 10.0
BACKOFF_MAX_SECONDS = 300.0
HEALTHY_RESET_SECONDS = 600.0

URGENT_FIRST_SECONDS = 1.0
URGENT_MAX_SECONDS = 60.0
"""Pauses where no other replica serves: the model is retried soon, but one that ends at every start does not keep a
core to itself.
"""

AWAITED_SECONDS = 2.0
"""Requests wait for a replica that is due within this time; in an urgent case that covers the first three starts in a
row. After that the next start is not expected to succeed.
"""

STEADY_SECONDS = 60.0


def backoff_seconds(restarts_in_a_row: int, *, urgent: bool = False) -> float:
    """Return the pause before the next restart: none before the first, then 10, 20, 40 … 300 s, as in Kubernetes.

    urgent: the pauses are 1, 2, 4 … 60 s.
    """
    if not restarts_in_a_row:
        return 0.0
    first, most = (URGENT_FIRST_SECONDS, URGENT_MAX_SECONDS) if urgent else (BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS)
    return float(min(most, first * 2.0 ** (restarts_in_a_row - 1)))


class RestartState(Struct, eq=False):
    """The restart history of one replica, passed on to its replacement. Times are monotonic seconds.

    failures: failed checks in a row. restarts_in_a_row: restarts without one that did well.
    restart_due: while the replica is down, when the next one may be started. awaited: while it is down, whether
    requests may wait for that one.
    """

    failures: int = 0
    restarts_in_a_row: int = 0
    restarted_at: float = 0.0
    restart_due: float = 0.0
    awaited: bool = False

    def healthy(self, now: float) -> None:
        self.failures = 0
        if self.restarts_in_a_row and now - self.restarted_at >= HEALTHY_RESET_SECONDS:
            self.restarts_in_a_row = 0

    def lost(self, now: float, *, by_itself: bool, had_answered: bool, is_last: bool) -> None:
        """Plan the restart of a lost replica: at once, unless it fails again and again by itself.

        A replica that had answered well does not count as failing if it was killed from outside, had been steady for a
        minute, or was the last one: its model is worth a start for each time that it answered.
        """
        urgent = is_last or not by_itself
        if had_answered and (urgent or now - self.restarted_at >= STEADY_SECONDS):
            self.restarts_in_a_row = 0
        self._plan(now, urgent=urgent)

    def start_failed(self, now: float, *, is_last: bool) -> None:
        """Plan the next try. is_last: whether no other replica serves."""
        self._plan(now, urgent=is_last)

    def _plan(self, now: float, *, urgent: bool) -> None:
        self.failures = 0
        pause = backoff_seconds(self.restarts_in_a_row, urgent=urgent)
        self.restart_due = now + pause
        self.awaited = pause <= AWAITED_SECONDS

    def restarted(self, now: float) -> None:
        self.restarts_in_a_row += 1
        self.restarted_at = now
