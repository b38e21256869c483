"""The store of what happens in experiments, as an adapter implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from app.core.rollout.feedback import Feedback, KeyTotal


class ExperimentStore(Protocol):
    """The keys that met each arm, and the values that callers report.

    Keys are kept as they are given: give a digest of one that tells who somebody is. Every method raises
    CatalogUnavailable while the database is away.
    """

    async def meet(self, rollout_id: str, arms: Mapping[str, str], at: str) -> None:
        """Record which arm answers for which keys. arms: model_id by key. A key stays with its first arm.

        Raises NotFound if there is no such rollout.
        """
        ...

    async def met(self, rollout_id: str) -> dict[str, int]:
        """Return the number of keys that met each arm, by model_id."""
        ...

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
