"""The split of a name whose candidate is judged by the stable version."""

from __future__ import annotations

from collections.abc import Sequence

from app.access.rate_limit import Allowance
from app.core.rollout.keys import NOBODY, Identity
from app.core.route import Canary
from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest
from app.dispatch.rollout.copies import Boost
from app.dispatch.rollout.evidence import Ledger
from app.dispatch.rollout.overdue import Lateness, OverdueClock
from app.dispatch.rollout.pair import Pair
from app.dispatch.rollout.stream import CanaryStream
from app.dispatch.route import Split
from app.dispatch.stream import Stream
from model_container.contract import frames


def repeats_effects(*lanes: Lane) -> bool:
    """Return whether a request that goes to each of these lanes would have an effect outside the model twice."""
    return any(lane.endpoint.side_effects for lane in lanes)


class CanarySplit(Split):
    """A split between a candidate and a stable version, with rescue and evidence.

    rescues: whether the stable version answers what the candidate could not; never for a model with side effects. ledger, boost: outlive this split, which
    is made anew with each table.
    """

    __slots__ = ("boost", "candidate", "clock", "lateness", "ledger", "rescues", "stable")

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
        self.rescues = canary.rescue and not repeats_effects(candidate, stable)
        self.ledger = ledger
        self.clock = OverdueClock()
        self.lateness = Lateness(candidate, stable, canary.overdue_seconds, self.clock)
        self.boost: Boost | None = None

    def submit(self, request: PendingRequest, now: float) -> None:
        lane = self.next()
        if lane is self.candidate:
            self.lateness.renew(now)
            Pair(self, request).begin(now)
        elif self.boost is not None and now >= self.boost.open_at:
            self.boost.submit(request, lane, now)
        else:
            request.lane = lane
            lane.submit(request, now)

    def stream(
        self, request: frames.Request, allowance: Allowance | None, request_id: str, identity: Identity = NOBODY
    ) -> Stream:
        lane = self.next()
        if lane is self.candidate:
            return CanaryStream(self, request, allowance, request_id)
        return Stream(lane, request, allowance)

    def due(self, now: float) -> float:
        """Return when the candidate's answer to a request that it gets now is overdue.

        A request that has to wait for a copy has as much more time as that one still has.
        """
        busy_until = self.boost.busy_until if self.boost is not None else 0.0
        return max(now, busy_until) + self.lateness.overdue_seconds
