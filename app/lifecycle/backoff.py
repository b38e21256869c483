"""How long a replica that keeps ending has to wait for its next start."""

from __future__ import annotations

from msgspec import Struct

BACKOFF_FIRST_SECONDS = 10.0
BACKOFF_MAX_SECONDS = 300.0
HEALTHY_RESET_SECONDS = 600.0


def backoff_seconds(restarts_in_a_row: int) -> float:
    """How long to wait before the next restart: none before the first, then 10, 20, 40 … 300 s, as Kubernetes does."""
    if not restarts_in_a_row:
        return 0.0
    return min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** (restarts_in_a_row - 1))


class Watch(Struct, eq=False):
    """What is remembered of one replica, and handed on to the one that replaces it. Times are monotonic seconds.

    failures: of checks, in a row. restart_due: while it is down, when the next may be started.
    """

    failures: int = 0
    restarts_in_a_row: int = 0
    restarted_at: float = 0.0
    restart_due: float = 0.0

    def healthy(self, now: float) -> None:
        self.failures = 0
        if self.restarts_in_a_row and now - self.restarted_at >= HEALTHY_RESET_SECONDS:
            self.restarts_in_a_row = 0

    def down(self, now: float) -> None:
        """Plan the restart."""
        self.failures = 0
        self.restart_due = now + backoff_seconds(self.restarts_in_a_row)

    def restarted(self, now: float) -> None:
        self.restarts_in_a_row += 1
        self.restarted_at = now
