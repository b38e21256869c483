"""A store of what happens in experiments, in memory, which can be away."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.rollout.feedback import Feedback, KeyTotal
from app.errors import CatalogUnavailable, Conflict


class MemoryExperiments:
    """What an ExperimentStore promises. away: every method raises CatalogUnavailable."""

    def __init__(self) -> None:
        self.away = False
        self.keys: dict[str, dict[str, str]] = {}
        self.feedback: list[Feedback] = []

    async def meet(self, rollout_id: str, arms: Mapping[str, str], at: str) -> None:
        self._reach()
        self.keys[rollout_id] = {**arms, **self.keys.get(rollout_id, {})}

    async def met(self, rollout_id: str) -> dict[str, int]:
        self._reach()
        arms = list(self.keys.get(rollout_id, {}).values())
        return {model_id: arms.count(model_id) for model_id in set(arms)}

    async def add(self, feedback: Feedback) -> bool:
        self._reach()
        for other in self.feedback:
            if other.request_id and (other.request_id, other.metric) == (feedback.request_id, feedback.metric):
                if other.value != feedback.value:
                    raise Conflict("Another value is recorded.")
                return False
        self.feedback.append(feedback)
        return True

    async def metrics(self, rollout_id: str) -> tuple[str, ...]:
        self._reach()
        return tuple(sorted({each.metric for each in self.feedback if each.rollout_id == rollout_id}))

    async def totals(self, rollout_id: str, metric: str) -> tuple[KeyTotal, ...]:
        self._reach()
        mine = [each for each in self.feedback if (each.rollout_id, each.metric) == (rollout_id, metric)]
        totals = []
        for model_id, key in sorted({(each.model_id, each.key) for each in mine}):
            of_key = [each for each in mine if (each.model_id, each.key) == (model_id, key)]
            values = [each.value for each in of_key if not each.is_past]
            past = [each.value for each in of_key if each.is_past]
            totals.append(KeyTotal(model_id, key, len(values), sum(values), sum(past) if past else None))
        return tuple(totals)

    def _reach(self) -> None:
        if self.away:
            raise CatalogUnavailable("The database does not answer.")
