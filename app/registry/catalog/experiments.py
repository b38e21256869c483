"""What happens in experiments, in the catalog: keys that met an arm, and feedback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from app.core.rollout.feedback import Feedback, KeyTotal
from app.errors import Conflict, NotFound
from app.registry.catalog.transaction import ConstraintFailed

if TYPE_CHECKING:
    from app.registry.catalog.database import CatalogDatabase


class SqlExperimentStore:
    """Implements ExperimentStore."""

    def __init__(self, database: CatalogDatabase) -> None:
        self._database = database

    async def meet(self, rollout_id: str, arms: Mapping[str, str], at: str) -> None:
        if not arms:
            return
        rows = [{"rollout_id": rollout_id, "key": key, "model_id": arm, "at": at} for key, arm in arms.items()]
        try:
            async with self._database.write() as transaction:
                insert = transaction.insert(transaction.tables.experiment_keys).on_conflict_do_nothing()
                await transaction.connection.execute(insert, rows)
        except ConstraintFailed as error:
            raise _no_rollout(rollout_id) from error

    async def met(self, rollout_id: str) -> dict[str, int]:
        from sqlalchemy import func, select

        async with self._database.read() as transaction:
            keys = transaction.tables.experiment_keys
            statement = select(keys.c.model_id, func.count()).where(keys.c.rollout_id == rollout_id)
            result = await transaction.connection.execute(statement.group_by(keys.c.model_id))
        return {model_id: count for model_id, count in result}

    async def add(self, feedback: Feedback) -> bool:
        values = {**msgspec.to_builtins(feedback), "request_id": feedback.request_id or None}
        try:
            async with self._database.write() as transaction:
                await transaction.connection.execute(transaction.tables.feedback.insert().values(values))
        except ConstraintFailed as error:
            recorded = await self._of_request(feedback.request_id, feedback.metric)
            if recorded is None:
                raise _no_rollout(feedback.rollout_id) from error
            if recorded != feedback.value:
                raise Conflict(
                    f"`{feedback.metric}` of the request `{feedback.request_id}` is recorded as {recorded:g}.",
                    hint="A value is reported once for each request and metric.",
                ) from error
            return False
        return True

    async def metrics(self, rollout_id: str) -> tuple[str, ...]:
        from sqlalchemy import select

        async with self._database.read() as transaction:
            feedback = transaction.tables.feedback
            result = await transaction.connection.execute(
                select(feedback.c.metric).where(feedback.c.rollout_id == rollout_id).distinct()
            )
        return tuple(sorted(result.scalars()))

    async def totals(self, rollout_id: str, metric: str) -> tuple[KeyTotal, ...]:
        from sqlalchemy import func, select

        async with self._database.read() as transaction:
            feedback = transaction.tables.feedback
            columns = (feedback.c.model_id, feedback.c.key, feedback.c.is_past)
            statement = select(*columns, func.count(), func.sum(feedback.c.value))
            of_metric = (feedback.c.rollout_id == rollout_id) & (feedback.c.metric == metric)
            result = await transaction.connection.execute(statement.where(of_metric).group_by(*columns))
            rows = result.all()
        past = {(model_id, key): total for model_id, key, is_past, _, total in rows if is_past}
        values = {(model_id, key): (count, total) for model_id, key, is_past, count, total in rows if not is_past}
        totals = []
        for model_id, key in sorted(past | values):
            count, total = values.get((model_id, key), (0, 0.0))
            totals.append(KeyTotal(model_id, key, count, total, past.get((model_id, key))))
        return tuple(totals)

    async def _of_request(self, request_id: str, metric: str) -> float | None:
        async with self._database.read() as transaction:
            feedback = transaction.tables.feedback
            this = (feedback.c.request_id == request_id) & (feedback.c.metric == metric)
            row = (await transaction.connection.execute(feedback.select().where(this))).first()
        return float(row.value) if row is not None else None


def _no_rollout(rollout_id: str) -> NotFound:
    return NotFound(f"There is no rollout `{rollout_id}`.", hint="Look at the rollouts of the model.")
