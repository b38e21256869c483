"""The split of a name whose candidate is judged by the stable version."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.route import Canary
from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest
from app.dispatch.rollout.evidence import Ledger
from app.dispatch.rollout.overdue import Lateness, OverdueClock
from app.dispatch.rollout.pair import Pair
from app.dispatch.route import Split


class CanarySplit(Split):
    """A split between a candidate and a stable version, with rescue and evidence.

    rescues: whether the stable version answers what the candidate could not. ledger: outlives this split, which is made
    anew with each table.
    """

    __slots__ = ("candidate", "clock", "lateness", "ledger", "rescues", "stable")

    def __init__(
        self,
        arms: Sequence[tuple[Lane, float]],
        place: float,
        canary: Canary,
        candidate: Lane,
        stable: Lane,
        ledger: Ledger,
    ) -> None:
        super().__init__(arms, place)
        self.candidate = candidate
        self.stable = stable
        self.rescues = canary.rescue
        self.ledger = ledger
        self.lateness = Lateness(candidate, stable, canary.overdue_seconds)
        self.clock = OverdueClock()

    def submit(self, request: PendingRequest, now: float) -> None:
        lane = self.next()
        if lane is self.candidate:
            self.lateness.renew(now)
            Pair(self, request, now).begin()
        else:
            request.lane = lane
            lane.submit(request, now)

    def due(self, now: float) -> float:
        """Return when an answer of the candidate to a request that it gets now is overdue."""
        return now + self.lateness.overdue_seconds
