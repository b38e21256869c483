"""The audit log in the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from app.core.audit import AuditEntry
from app.registry.catalog.transaction import as_record

if TYPE_CHECKING:
    from app.registry.catalog.database import CatalogDatabase


class SqlAuditLog:
    """Implements AuditLog."""

    def __init__(self, database: CatalogDatabase) -> None:
        self._database = database

    async def add(self, entry: AuditEntry) -> AuditEntry:
        values = msgspec.to_builtins(entry)
        del values["number"]
        async with self._database.write() as transaction:
            audit = transaction.tables.audit
            result = await transaction.connection.execute(audit.insert().values(values).returning(audit.c.number))
            return structs.replace(entry, number=result.scalar_one())

    async def list(self, subject: str = "", *, limit: int = 100, before: int = 0) -> tuple[AuditEntry, ...]:
        async with self._database.read() as transaction:
            audit = transaction.tables.audit
            statement = audit.select().where(audit.c.subject == subject) if subject else audit.select()
            if before:
                statement = statement.where(audit.c.number < before)
            result = await transaction.connection.execute(statement.order_by(audit.c.number.desc()).limit(limit))
        return tuple(as_record(row, AuditEntry) for row in result)
