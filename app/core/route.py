"""The route of a name: which of its versions answer its requests, and in which proportions."""

from __future__ import annotations

from collections.abc import Container
from math import isclose

from msgspec import Struct

from app.core.rollout.keys import KeySource
from app.errors import BadInput

TOLERANCE = 1e-9
"""Largest difference of the sum of the weights from 1: they are floats, often quotients."""


class Arm(Struct, frozen=True):
    """A version and its share of the requests for a name. weight: from 0, which means none, to 1, which means all."""

    model_id: str
    weight: float


class CopyBounds(Struct, frozen=True):
    """Bounds on the copies of requests that are sent to a version; what is beyond them is dropped and counted.

    in_flight: how many copies may be unanswered at a time. held_bytes: most bytes that the bodies of unanswered copies
    and the pairs of answers that wait for a comparison may hold together. per_second: most copies a second.
    pairs: most pairs of answers that wait for a comparison.

    Raises BadInput unless each is 0 or more.
    """

    in_flight: int = 16
    held_bytes: int = 8 << 20
    per_second: float = 100.0
    pairs: int = 1000

    def __post_init__(self) -> None:
        if not all(bound >= 0 for bound in (self.in_flight, self.held_bytes, self.per_second, self.pairs)):
            raise BadInput(f"A bound on copies is not 0 or more: {self}.", hint="0 means that no copies are made.")


class Canary(Struct, frozen=True):
    """What makes two arms of a route a canary: the candidate is judged by whether the stable version does better.

    stable, candidate: model_ids of arms. rescue: whether the stable version answers, within the same deadline, what the
    candidate could not. overdue_seconds: how long the candidate may take before an answer is overdue; None: derived
    from the stable version's latencies. boost: whether the candidate gets copies of the stable version's requests while
    it is idle.

    Raises BadInput for values that are not so.
    """

    stable: str
    candidate: str
    rescue: bool = True
    overdue_seconds: float | None = None
    boost: bool = True

    def __post_init__(self) -> None:
        if self.stable == self.candidate:
            raise BadInput(f"`{self.stable}` cannot be both the stable version and the candidate.")
        if self.overdue_seconds is not None and not self.overdue_seconds > 0:
            raise BadInput(f"`overdue_seconds: {self.overdue_seconds}` is not above 0.")


class Route(Struct, frozen=True):
    """The arms among which the requests for one name are split, and what a rollout asks of them.

    The arms are of different versions, each weight is in [0, 1], and the weights add up to 1. An arm of weight 0
    belongs to the route but gets no requests yet.

    mirror: the model_id of a version that gets copies of requests and never answers a caller; it is not an arm.
    canary: set while one arm is judged by another. rollout_id: of the rollout to which the evidence belongs; evidence is
    counted from 0 when it changes. copies: the bounds of the copies that the mirror or a boosted candidate gets.
    key: where the key of a request is found that decides its arm; None where requests are spread evenly.

    Raises BadInput for values that are not so.
    """

    arms: tuple[Arm, ...]
    mirror: str | None = None
    canary: Canary | None = None
    rollout_id: str = ""
    copies: CopyBounds = CopyBounds()
    key: KeySource | None = None

    def __post_init__(self) -> None:
        weights = ", ".join(f"{arm.model_id}: {arm.weight}" for arm in self.arms)
        if not all(0.0 <= arm.weight <= 1.0 for arm in self.arms):
            raise BadInput(f"A weight of the route ({weights}) is not between 0 and 1.")
        if not isclose(sum(arm.weight for arm in self.arms), 1.0, rel_tol=0.0, abs_tol=TOLERANCE):
            raise BadInput(f"The weights of the route ({weights}) do not add up to 1.")
        if len({arm.model_id for arm in self.arms}) < len(self.arms):
            raise BadInput(f"A version occurs twice in the route ({weights}).")
        if any(arm.model_id == self.mirror for arm in self.arms):
            raise BadInput(f"`{self.mirror}` cannot be both an arm and the mirror of a route.")
        if self.canary is not None and self.mirror is not None:
            raise BadInput(f"A route has a canary or a mirror, not both ({weights}).")
        if self.canary is not None:
            arms = {arm.model_id for arm in self.arms}
            for model_id in (self.canary.stable, self.canary.candidate):
                if model_id not in arms:
                    raise BadInput(f"`{model_id}` of the canary is no arm of the route ({weights}).")

    @property
    def versions(self) -> frozenset[str]:
        """The model_ids of the arms and of the mirror."""
        arms = frozenset(arm.model_id for arm in self.arms)
        return arms if self.mirror is None else arms | {self.mirror}

    @property
    def main(self) -> Arm:
        """The arm with the greatest weight; the first one if several have it."""
        return max(self.arms, key=lambda arm: arm.weight)

    def weight(self, model_id: str) -> float:
        """Return the share of a version; 0 if it is no arm."""
        return next((arm.weight for arm in self.arms if arm.model_id == model_id), 0.0)

    def restricted_to(self, model_ids: Container[str], coming: Container[str] = ()) -> Route | None:
        """Return the route over these versions only. The other arms give them their shares, in proportion.

        It is a canary only while both the stable version and the candidate are among them; but a stable version that is
        coming back stays in it without a share, as it rescues what the candidate cannot answer meanwhile. Returns None
        if none of these versions is an arm that has a share.

        coming: versions of which a replica is being started.
        """
        arms = [arm for arm in self.arms if arm.model_id in model_ids]
        total = sum(arm.weight for arm in arms)
        if not total:
            return None
        mirror = self.mirror if self.mirror in model_ids else None
        canary = self.canary
        shares = tuple(Arm(arm.model_id, arm.weight / total) for arm in arms)
        if canary is not None and canary.stable not in model_ids and canary.stable in coming:
            shares = (Arm(canary.stable, 0.0), *shares)
        if canary is not None and not {canary.stable, canary.candidate} <= {arm.model_id for arm in shares}:
            canary = None
        return Route(shares, mirror, canary, self.rollout_id, self.copies, self.key)
