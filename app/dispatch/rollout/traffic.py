"""The rollout of one name as the request path sees it, from table to table."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.rollout.records import ShadowPair
from app.core.route import Route
from app.dispatch.batch import Lane
from app.dispatch.rollout.canary import CanarySplit, repeats_effects
from app.dispatch.rollout.copies import Boost, Shadow
from app.dispatch.rollout.evidence import Ledger
from app.dispatch.rollout.experiment import Exposures, KeyedSplit
from app.dispatch.rollout.shadow import ShadowSplit
from app.dispatch.route import Split


class RolloutTraffic:
    """The evidence of one rollout, its copies under way and the keys that it met. They outlive the splits that are made of each table.

    judged: the model_id of the candidate or the mirror.
    """

    def __init__(self, rollout_id: str) -> None:
        self.rollout_id = rollout_id
        self.judged = ""
        self.ledger = Ledger()
        self.exposures = Exposures(rollout_id)
        self._boost: Boost | None = None
        self._shadow: Shadow | None = None

    def split(self, route: Route, lanes: Mapping[str, Lane], place: float) -> Split:
        """Make the split of a route that has a canary, a mirror or a key. lanes: by model_id, of all its versions."""
        arms = [(lanes[arm.model_id], arm.weight) for arm in route.arms if arm.weight]
        if route.key is not None:
            return KeyedSplit(arms, place, route.key, self.exposures)
        if route.canary is None:
            assert route.mirror is not None
            self.judged = route.mirror
            if repeats_effects(lanes[route.mirror], *(lane for lane, _ in arms)):
                return Split(arms, place)
            return ShadowSplit(arms, place, self._shadow_of(lanes[route.mirror], route))
        canary = route.canary
        self.judged = canary.candidate
        split = CanarySplit(arms, place, canary, lanes[canary.candidate], lanes[canary.stable], self.ledger)
        if canary.boost and not repeats_effects(split.candidate, split.stable):
            split.boost = self._boost_of(split, route)
        return split

    def _boost_of(self, split: CanarySplit, route: Route) -> Boost:
        boost = self._boost
        if boost is None:
            boost = self._boost = Boost(split.candidate, route.copies, self.ledger, split.lateness)
        boost.bind(split.candidate, route.copies)
        boost.lateness = split.lateness
        return boost

    def _shadow_of(self, lane: Lane, route: Route) -> Shadow:
        shadow = self._shadow
        if shadow is None:
            shadow = self._shadow = Shadow(lane, route.copies, self.ledger)
        shadow.bind(lane, route.copies)
        return shadow

    def end_copies(self) -> None:
        """Make no more copies, and drop the pairs that nobody has taken. The evidence stays."""
        self._boost = self._shadow = None

    def take_pairs(self) -> list[ShadowPair]:
        """Return the pairs of answers that came since the last call, the oldest first."""
        return self._shadow.take() if self._shadow is not None else []
