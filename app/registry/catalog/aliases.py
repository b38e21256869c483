"""Aliases in the catalog, with the history of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.core.alias import Alias, AliasChange, check_alias
from app.core.model import ModelVersion
from app.core.version_record import version_record
from app.errors import Conflict, NotFound
from app.registry.catalog.transaction import ConstraintFailed, Transaction, as_record
from app.registry.catalog.versions import record_versions

if TYPE_CHECKING:
    from app.registry.catalog.database import CatalogDatabase


class SqlAliasStore:
    """Implements AliasStore."""

    def __init__(self, database: CatalogDatabase) -> None:
        self._database = database

    async def all(self, name: str = "") -> tuple[Alias, ...]:
        async with self._database.read() as transaction:
            aliases = transaction.tables.aliases
            statement = aliases.select().where(aliases.c.name == name) if name else aliases.select()
            result = await transaction.connection.execute(statement)
        found = (as_record(row, Alias) for row in result)
        return tuple(sorted(found, key=lambda alias: (alias.name, alias.alias)))

    async def set(
        self, model: ModelVersion, alias: str, *, at: str, by: str = "", generation: int | None = None
    ) -> Alias:
        check_alias(alias)
        try:
            async with self._database.write() as transaction:
                await record_versions(transaction, [version_record(model)])
                present = await _present(transaction, model.name, alias)
                _check(model.name, alias, present, generation)
                if present is not None and present.model_id == model.model_id:
                    return present
                change = AliasChange(
                    model.name, alias, await _last(transaction, model.name, alias) + 1, model.model_id, at, by
                )
                await _add(transaction, change)
                wanted = Alias(model.name, alias, model.model_id, change.generation, at, by)
                await _put(transaction, wanted, present)
                return wanted
        except ConstraintFailed as error:
            raise _changed(model.name, alias) from error

    async def delete(self, name: str, alias: str, *, at: str, by: str = "", generation: int | None = None) -> Alias:
        try:
            async with self._database.write() as transaction:
                present = await _present(transaction, name, alias)
                if present is None:
                    raise NotFound(f"There is no alias `{name}@{alias}`.", hint="Look at the aliases of the model.")
                _check(name, alias, present, generation)
                await _add(transaction, AliasChange(name, alias, present.generation + 1, "", at, by))
                aliases = transaction.tables.aliases
                await transaction.connection.execute(
                    aliases.delete().where((aliases.c.name == name) & (aliases.c.alias == alias))
                )
                return present
        except ConstraintFailed as error:
            raise _changed(name, alias) from error

    async def history(self, name: str, alias: str = "") -> tuple[AliasChange, ...]:
        async with self._database.read() as transaction:
            changes = transaction.tables.alias_history
            statement = changes.select().where(changes.c.name == name)
            if alias:
                statement = statement.where(changes.c.alias == alias)
            newest_first = statement.order_by(changes.c.at.desc(), changes.c.generation.desc())
            result = await transaction.connection.execute(newest_first)
        return tuple(as_record(row, AliasChange) for row in result)


async def _present(transaction: Transaction, name: str, alias: str) -> Alias | None:
    aliases = transaction.tables.aliases
    this = (aliases.c.name == name) & (aliases.c.alias == alias)
    row = (await transaction.connection.execute(aliases.select().where(this))).first()
    return as_record(row, Alias) if row is not None else None


async def _last(transaction: Transaction, name: str, alias: str) -> int:
    """Return the generation of the last change of an alias, which may be its deletion; 0 for one that never existed."""
    changes = transaction.tables.alias_history
    statement = changes.select().where((changes.c.name == name) & (changes.c.alias == alias))
    newest = statement.order_by(changes.c.generation.desc()).limit(1)
    row = (await transaction.connection.execute(newest)).first()
    return int(row.generation) if row is not None else 0


async def _add(transaction: Transaction, change: AliasChange) -> None:
    """Record a change. Two of one generation are refused by the primary key."""
    await transaction.connection.execute(transaction.tables.alias_history.insert().values(msgspec.to_builtins(change)))


async def _put(transaction: Transaction, wanted: Alias, present: Alias | None) -> None:
    aliases, values = transaction.tables.aliases, msgspec.to_builtins(wanted)
    if present is None:
        await transaction.connection.execute(aliases.insert().values(values))
        return
    this = (aliases.c.name == wanted.name) & (aliases.c.alias == wanted.alias)
    await transaction.connection.execute(aliases.update().where(this).values(values))


def _check(name: str, alias: str, present: Alias | None, generation: int | None) -> None:
    if generation is not None and generation != (present.generation if present is not None else 0):
        raise _changed(name, alias)


def _changed(name: str, alias: str) -> Conflict:
    return Conflict(
        f"The alias `{name}@{alias}` has changed meanwhile.", hint="Look at where it leads now, and decide again."
    )
