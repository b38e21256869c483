"""The split of a name whose requests are copied to a mirror."""

from __future__ import annotations

from collections.abc import Sequence

from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest
from app.dispatch.rollout.copies import Shadow
from app.dispatch.route import Split


class ShadowSplit(Split):
    """A split, often over one lane, whose requests are copied."""

    __slots__ = ("_copies",)

    def __init__(self, arms: Sequence[tuple[Lane, float]], place: float, copies: Shadow) -> None:
        super().__init__(arms, place)
        self._copies = copies

    def submit(self, request: PendingRequest, now: float) -> None:
        lane, copies = self.next(), self._copies
        if now >= copies.open_at:
            copies.submit(request, lane, now)
        else:
            copies.drop()
            request.lane = lane
            lane.submit(request, now)
