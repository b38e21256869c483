"""Feedback in the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.core.rollout.feedback import Feedback, KeyTotal
from app.errors import Conflict, NotFound
from app.registry.catalog.transaction import ConstraintFailed

if TYPE_CHECKING:
    from app.registry.catalog.database import CatalogDatabase


class SqlFeedbackStore:
    """Implements FeedbackStore."""

    def __init__(self, database: CatalogDatabase) -> None:
        self._database = database

    async def add(self, feedback: Feedback) -> bool:
        values = {**msgspec.to_builtins(feedback), "request_id": feedback.request_id or None}
        try:
            async with self._database.write() as transaction:
                await transaction.connection.execute(transaction.tables.feedback.insert().values(values))
        except ConstraintFailed as error:
            recorded = await self._of_request(feedback.request_id, feedback.metric)
            if recorded is None:
                raise NotFound(f"There is no rollout `{feedback.rollout_id}`.") from error
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
            unit = (feedback.c.model_id, feedback.c.key)
            statement = select(*unit, func.count(), func.sum(feedback.c.value))
            of_metric = (feedback.c.rollout_id == rollout_id) & (feedback.c.metric == metric)
            result = await transaction.connection.execute(statement.where(of_metric).group_by(*unit))
        return tuple(sorted((KeyTotal(*row) for row in result), key=lambda total: (total.model_id, total.key)))

    async def _of_request(self, request_id: str, metric: str) -> float | None:
        async with self._database.read() as transaction:
            feedback = transaction.tables.feedback
            this = (feedback.c.request_id == request_id) & (feedback.c.metric == metric)
            row = (await transaction.connection.execute(feedback.select().where(this))).first()
        return float(row.value) if row is not None else None
