"""The route of a name: which of its versions answer its requests, and in which proportions."""

from __future__ import annotations

from collections.abc import Container
from math import isclose

from msgspec import Struct

from app.errors import BadInput

TOLERANCE = 1e-9
"""Largest difference of the sum of the weights from 1: they are floats, often quotients."""


class Arm(Struct, frozen=True):
    """A version and its share of the requests for a name. weight: from 0, which means none, to 1, which means all."""

    model_id: str
    weight: float


class Route(Struct, frozen=True):
    """The arms among which the requests for one name are split, and a version that gets copies.

    The arms are of different versions, each weight is in [0, 1], and the weights add up to 1. An arm of weight 0
    belongs to the route but gets no requests yet.

    mirror: the model_id of a version that will get copies of requests and never answers a caller; it is not an arm.
    Dispatch gets it with the route table but does not copy requests yet.

    Raises BadInput for values that are not so.
    """

    arms: tuple[Arm, ...]
    mirror: str | None = None

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

    def restricted_to(self, model_ids: Container[str]) -> Route | None:
        """Return the route over these versions only. The other arms give them their shares, in proportion.

        Returns None if none of these versions is an arm that has a share.
        """
        arms = [arm for arm in self.arms if arm.model_id in model_ids]
        total = sum(arm.weight for arm in arms)
        if not total:
            return None
        mirror = self.mirror if self.mirror in model_ids else None
        return Route(tuple(Arm(arm.model_id, arm.weight / total) for arm in arms), mirror)
