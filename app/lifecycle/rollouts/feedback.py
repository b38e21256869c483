"""The store of feedback, as an adapter implements it."""

from __future__ import annotations

from typing import Protocol

from app.core.rollout.feedback import Feedback, KeyTotal


class FeedbackStore(Protocol):
    """The values that callers report. Every method raises CatalogUnavailable while the database is away."""

    async def add(self, feedback: Feedback) -> bool:
        """Record a value. Returns False if the same one is recorded for this request and metric already.

        Raises Conflict if another value is, and NotFound if there is no such rollout.
        """
        ...

    async def metrics(self, rollout_id: str) -> tuple[str, ...]:
        """Return the names of the metrics that were reported for a rollout, sorted."""
        ...

    async def totals(self, rollout_id: str, metric: str) -> tuple[KeyTotal, ...]:
        """Return the values of a metric by arm and key, sorted."""
        ...
