"""Rollouts and their events in the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.core.rollout.records import FINISHED, Rollout, RolloutEvent
from app.errors import Conflict
from app.registry.catalog.transaction import ConstraintFailed, Transaction, as_record
from app.registry.catalog.versions import record_model

if TYPE_CHECKING:
    from app.registry.catalog.database import CatalogDatabase


class SqlRolloutStore:
    """Implements RolloutStore."""

    def __init__(self, database: CatalogDatabase) -> None:
        self._database = database

    async def begin(self, rollout: Rollout, event: RolloutEvent) -> None:
        try:
            async with self._database.write() as transaction:
                await record_model(transaction, rollout.name, rollout.created_at)
                await transaction.connection.execute(
                    transaction.tables.rollouts.insert().values(msgspec.to_builtins(rollout))
                )
                await _add(transaction, event)
        except ConstraintFailed as error:
            if await self.get(rollout.id) == rollout:
                return  # its own earlier attempt, whose answer was lost
            raise await self._second(rollout) from error

    async def change(self, rollout: Rollout, event: RolloutEvent) -> None:
        try:
            async with self._database.write() as transaction:
                rollouts = transaction.tables.rollouts
                made_from = (rollouts.c.id == rollout.id) & (rollouts.c.generation == rollout.generation - 1)
                result = await transaction.connection.execute(
                    rollouts.update().where(made_from).values(msgspec.to_builtins(rollout))
                )
                if result.rowcount:
                    await _add(transaction, event)
                    return
        except ConstraintFailed as error:
            raise await self._second(rollout) from error
        recorded = await self.get(rollout.id)
        if recorded == rollout:
            return
        raise Conflict(
            f"The rollout {rollout.id} of `{rollout.name}` has changed meanwhile.",
            hint="Look at what it is now, and decide again.",
            rollout_id=rollout.id,
            generation=recorded.generation if recorded is not None else 0,
        )

    async def get(self, rollout_id: str) -> Rollout | None:
        async with self._database.read() as transaction:
            rollouts = transaction.tables.rollouts
            result = await transaction.connection.execute(rollouts.select().where(rollouts.c.id == rollout_id))
            row = result.first()
        return as_record(row, Rollout) if row is not None else None

    async def active(self) -> tuple[Rollout, ...]:
        async with self._database.read() as transaction:
            rollouts = transaction.tables.rollouts
            statement = rollouts.select().where(rollouts.c.state.not_in(FINISHED))
            result = await transaction.connection.execute(statement.order_by(rollouts.c.created_at, rollouts.c.id))
        return tuple(as_record(row, Rollout) for row in result)

    async def list(self, name: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        async with self._database.read() as transaction:
            rollouts = transaction.tables.rollouts
            statement = rollouts.select().where(rollouts.c.name == name) if name else rollouts.select()
            newest_first = statement.order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc())
            result = await transaction.connection.execute(newest_first.limit(limit))
        return tuple(as_record(row, Rollout) for row in result)

    async def events(self, rollout_id: str, after: int = 0) -> tuple[RolloutEvent, ...]:
        async with self._database.read() as transaction:
            events = transaction.tables.rollout_events
            later = (events.c.rollout_id == rollout_id) & (events.c.number > after)
            result = await transaction.connection.execute(events.select().where(later).order_by(events.c.number))
        return tuple(as_record(row, RolloutEvent) for row in result)

    async def _second(self, rollout: Rollout) -> Conflict:
        """Return the error for a rollout that the tables refuse, which names the one that is active."""
        first = next((other for other in await self.active() if other.name == rollout.name), None)
        if first is None or first.id == rollout.id:
            return Conflict(
                f"The rollout {rollout.id} of `{rollout.name}` has changed meanwhile.", rollout_id=rollout.id
            )
        return Conflict(
            f"`{rollout.name}` has a {first.kind} that is {first.state}: {first.id}.",
            hint="Promote it, roll it back or stop it before you begin another.",
            rollout_id=first.id,
        )


async def _add(transaction: Transaction, event: RolloutEvent) -> None:
    await transaction.connection.execute(transaction.tables.rollout_events.insert().values(msgspec.to_builtins(event)))
