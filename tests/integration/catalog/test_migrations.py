"""The tables come about by migrations alone, which can be undone and done again."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.core.version_record import version_record
from app.errors import CatalogUnavailable
from app.registry.catalog import engine as engines
from app.registry.catalog import migrate
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.engine import HEAD
from app.registry.catalog.rollouts import SqlRolloutStore
from app.registry.catalog.tables import metadata
from app.registry.catalog.versions import SqlVersionRecords
from tests.integration.catalog.records_lab import canary, event, version

BROKEN = """
from alembic import op
revision, down_revision = "0002_broken", "0001_initial"

def upgrade() -> None:
    op.execute("CREATE TABLE half (id INTEGER)")
    op.execute("CREATE TABLE nonsense (")
"""


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_the_tables_can_be_made_undone_and_made_again(database: CatalogDatabase) -> None:
    ours = {"alembic_version", *metadata.tables}
    async with database.write() as transaction:
        run = transaction.connection.run_sync
        assert await run(tables) == ours
        await run(migrate.downgrade, "base")
        assert await run(tables) == {"alembic_version"}
        await run(migrate.upgrade)
        assert await run(tables) == ours

    store = SqlRolloutStore(database)
    await store.begin(canary(), event(canary()))
    assert await store.get("r1") == canary()


async def test_the_migrations_make_what_the_code_expects(database: CatalogDatabase) -> None:
    """`alembic check`: a table that was changed in the code alone would be told."""
    async with database.write() as transaction:
        await transaction.connection.run_sync(lambda connection: command.check(migrate.config(connection)))


async def test_every_constraint_and_index_has_the_name_that_the_convention_gives_it(database: CatalogDatabase) -> None:
    def named(connection: Connection) -> set[str]:
        found = inspect(connection)
        names = set()
        for table in metadata.tables:
            rules = [*found.get_foreign_keys(table), *found.get_unique_constraints(table), *found.get_indexes(table)]
            names |= {str(rule["name"]) for rule in [found.get_pk_constraint(table), *rules]}
        return names

    expected = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    expected |= {str(rule.name) for table in metadata.tables.values() for rule in table.constraints}
    async with database.read() as transaction:
        assert await transaction.connection.run_sync(named) == expected


async def test_the_newest_migration_is_the_one_that_an_opened_catalog_is_compared_with(
    database: CatalogDatabase,
) -> None:
    async with database.read() as transaction:
        configuration = await transaction.connection.run_sync(migrate.config)

    assert ScriptDirectory.from_config(configuration).get_current_head() == HEAD


async def test_a_migration_that_fails_midway_leaves_nothing(
    database: CatalogDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.open()
    copy = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "versions" / "0002_broken.py").write_text(BROKEN)
    monkeypatch.setattr(migrate, "MIGRATIONS", copy)

    with pytest.raises((CatalogUnavailable, OperationalError, ProgrammingError)):
        async with database.write() as transaction:
            await transaction.connection.run_sync(migrate.upgrade)

    async with database.read() as transaction:
        assert "half" not in await transaction.connection.run_sync(tables)
        assert (await transaction.connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() == HEAD


async def test_gateways_that_start_at_once_make_the_tables_once(place: Path | str) -> None:
    databases = [CatalogDatabase(place, lambda: [version_record(version())]) for _ in range(4)]

    await asyncio.gather(*(database.open() for database in databases))

    for database in databases:
        assert [record.model_id for record in await SqlVersionRecords(database).list("fraud")] == ["a1"]
        await database.close()


async def test_tables_of_a_newer_prism_are_left_alone(
    database: CatalogDatabase, place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.write() as transaction:
        await transaction.connection.execute(text("UPDATE alembic_version SET version_num = '0999_future'"))
    await database.close()

    with pytest.raises(CatalogUnavailable, match=r"does not know: .*0999_future") as refused:
        await database.open()

    assert "newer PRISM" in refused.value.hint
    monkeypatch.setattr(engines, "HEAD", "0999_future")
    assert await SqlRolloutStore(database).list() == ()
