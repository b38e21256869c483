"""Records of versions in the catalog: made from `model.json`, which stays the truth of what a version is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from app.core.version_record import VersionRecord
from app.errors import Conflict
from app.registry.catalog.transaction import Transaction, as_record

if TYPE_CHECKING:
    from app.registry.catalog.database import CatalogDatabase


async def record_model(transaction: Transaction, name: str, created_at: str) -> None:
    """Record that a model of this name exists, unless that is recorded."""
    insert = transaction.insert(transaction.tables.models).values(name=name, created_at=created_at)
    await transaction.connection.execute(insert.on_conflict_do_nothing())


async def record_versions(transaction: Transaction, records: Iterable[VersionRecord]) -> None:
    """Record versions, and the facts that are known of them now and were not before. What is recorded never changes."""
    versions, wanted = transaction.tables.versions, {record.model_id: record for record in records}
    result = await transaction.connection.execute(versions.select().where(versions.c.model_id.in_(wanted)))
    known = {row.model_id: row._mapping for row in result}
    for model_id, record in wanted.items():
        values = msgspec.to_builtins(record)
        if model_id not in known:
            await record_model(transaction, record.name, record.created_at)
            await transaction.connection.execute(transaction.insert(versions).values(values).on_conflict_do_nothing())
            continue
        found = {key: value for key, value in values.items() if value is not None and known[model_id][key] is None}
        if found:
            await transaction.connection.execute(versions.update().where(versions.c.model_id == model_id).values(found))


class SqlVersionRecords:
    """Implements VersionRecords."""

    def __init__(self, database: CatalogDatabase) -> None:
        self._database = database

    async def record(self, versions: Iterable[VersionRecord]) -> None:
        async with self._database.write() as transaction:
            await record_versions(transaction, versions)

    async def get(self, model_id: str) -> VersionRecord | None:
        async with self._database.read() as transaction:
            versions = transaction.tables.versions
            result = await transaction.connection.execute(versions.select().where(versions.c.model_id == model_id))
            row = result.first()
        return as_record(row, VersionRecord) if row is not None else None

    async def list(self, name: str) -> tuple[VersionRecord, ...]:
        async with self._database.read() as transaction:
            versions = transaction.tables.versions
            statement = versions.select().where(versions.c.name == name)
            result = await transaction.connection.execute(
                statement.order_by(versions.c.created_at.desc(), versions.c.model_id.desc())
            )
        return tuple(as_record(row, VersionRecord) for row in result)

    async def forget(self, model_id: str) -> None:
        async with self._database.write() as transaction:
            aliases, versions = transaction.tables.aliases, transaction.tables.versions
            result = await transaction.connection.execute(aliases.select().where(aliases.c.model_id == model_id))
            if leading := sorted(f"{row.name}@{row.alias}" for row in result):
                refs = ", ".join(f"`{ref}`" for ref in leading)
                raise Conflict(
                    f"{refs} leads to this version." if len(leading) == 1 else f"{refs} lead to this version.",
                    hint="Let the alias lead to another version, or delete it; then delete this one.",
                )
            await transaction.connection.execute(versions.delete().where(versions.c.model_id == model_id))
