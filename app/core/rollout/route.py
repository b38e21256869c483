"""The route that a rollout asks for: a pure function of its record."""

from __future__ import annotations

from app.core.rollout.records import Rollout
from app.core.route import Route


def rollout_route(rollout: Rollout) -> Route:
    """Return how the requests for a name are split while its rollout is in this state."""
    return Route(rollout.arms)
