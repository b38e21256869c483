"""While the database is away, what needs it says so with the next step; once it is back, it is used again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.rollout.records import RolloutState
from app.core.version_record import version_record
from app.errors import CatalogUnavailable
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.rollouts import SqlRolloutStore
from app.registry.catalog.versions import SqlVersionRecords
from tests.integration.catalog.postgres import PASSWORD, Postgres
from tests.integration.catalog.records_lab import canary, event, following, version


async def refusal(database: CatalogDatabase) -> CatalogUnavailable:
    """Return the error with which the catalog refuses. It names no password, and its status is 503."""
    with pytest.raises(CatalogUnavailable) as refused:
        await SqlRolloutStore(database).active()
    error = refused.value
    assert error.status == 503
    assert error.headers["Retry-After"]
    assert PASSWORD not in str(error.problem())
    return error


@pytest.mark.postgres
async def test_a_postgresql_that_stops_and_starts_is_used_again(postgres: Postgres) -> None:
    database = CatalogDatabase(postgres.empty_database(), lambda: [version_record(version())])
    store = SqlRolloutStore(database)
    await store.begin(canary(), event(canary()))

    await asyncio.to_thread(postgres.stop)
    try:
        for _ in range(2):
            error = await refusal(database)
            assert f"at 127.0.0.1:{postgres.port}/postgres cannot be used" in error.detail
            assert error.hint.startswith("Start the database, or correct DATABASE_URL")
    finally:
        await asyncio.to_thread(postgres.start)

    assert await store.active() == (canary(),)

    await asyncio.to_thread(postgres.empty_database)
    await refusal(database)
    assert await store.active() == ()
    assert await SqlVersionRecords(database).get("a1")
    await database.close()


@pytest.mark.postgres
async def test_a_connection_that_is_lost_within_a_transaction_is_told_and_an_idle_one_is_replaced(
    postgres: Postgres,
) -> None:
    database = CatalogDatabase(postgres.empty_database())
    store = SqlRolloutStore(database)
    end_ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'prism'"

    async def lose_it() -> None:
        async with database.read() as transaction:
            await transaction.connection.execute(transaction.tables.models.select())
            await asyncio.to_thread(postgres.execute, end_ours)
            await transaction.connection.execute(transaction.tables.models.select())

    with pytest.raises(CatalogUnavailable):
        await lose_it()
    assert await store.active() == ()
    await asyncio.to_thread(postgres.execute, end_ours)
    assert await store.active() == ()
    await database.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (("/postgres", "/elsewhere"), 'database "elsewhere" does not exist'),
        (("prism:", "nobody:"), "password authentication failed"),
    ],
)
async def test_a_wrong_url_is_told_without_its_password(
    postgres: Postgres, wrong: tuple[str, str], reason: str
) -> None:
    database = CatalogDatabase(postgres.url("postgres").replace(*wrong))

    assert reason in (await refusal(database)).detail
    await database.close()


async def test_a_host_that_does_not_answer_is_told(closed_port: int) -> None:
    database = CatalogDatabase(f"postgresql+asyncpg://prism:secret@127.0.0.1:{closed_port}/prism")

    assert f"127.0.0.1:{closed_port}/prism" in (await refusal(database)).detail
    await database.close()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[CatalogDatabase]:
    database = CatalogDatabase(tmp_path / "catalog.db")
    yield database
    await database.close()


async def test_a_file_that_cannot_be_opened_is_told_and_used_once_it_can(
    embedded: CatalogDatabase, tmp_path: Path
) -> None:
    in_its_place = tmp_path / "catalog.db"
    in_its_place.mkdir()
    error = await refusal(embedded)
    assert str(in_its_place) in error.detail
    assert error.hint.startswith("Make the file and its folder readable and writable")

    in_its_place.rmdir()
    store = SqlRolloutStore(embedded)
    await store.begin(canary(), event(canary()))
    assert await store.active() == (canary(),)
    assert in_its_place.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_no_database_is_to_be_moved_away(embedded: CatalogDatabase, tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    file.write_bytes(b"not a database, but longer than a header of one " * 100)

    error = await refusal(embedded)
    assert "not a database" in error.detail
    assert error.hint.startswith("Move the file away")

    file.unlink()
    assert await SqlRolloutStore(embedded).active() == ()


async def test_a_file_that_another_program_has_locked_is_told(
    embedded: CatalogDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.registry.catalog.engine.SQLITE_BUSY_TIMEOUT_MS", 50)
    await embedded.open()
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = SqlRolloutStore(embedded)

    assert await store.active() == ()
    with pytest.raises(CatalogUnavailable, match="database is locked") as refused:
        await store.begin(canary(), event(canary()))
    assert refused.value.hint.startswith("Another program has locked the file")

    other.execute("ROLLBACK")
    other.close()
    await store.begin(canary(), event(canary()))


async def test_a_full_disk_is_told_and_nothing_is_half_recorded(embedded: CatalogDatabase) -> None:
    store = SqlRolloutStore(embedded)
    await store.begin(canary(), event(canary()))
    async with embedded.write() as transaction:
        await transaction.connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as large as it is, that means

    running = following(canary(), RolloutState.RUNNING)
    with pytest.raises(CatalogUnavailable, match="full") as refused:
        await store.change(running, event(running, "x" * 1_000_000))

    assert refused.value.hint.startswith("Free some space")
    assert await store.active() == (canary(),)


async def test_sqlite_is_set_up_to_lose_nothing(embedded: CatalogDatabase) -> None:
    async with embedded.read() as transaction:
        found = [
            (await transaction.connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]

    assert found == ["wal", 2, 1, 5000]


async def test_many_who_come_at_once_open_the_database_once(
    embedded: CatalogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(
        "app.registry.catalog.database.record_versions", lambda transaction, versions: noted(made, transaction)
    )

    await asyncio.gather(*(SqlRolloutStore(embedded).active() for _ in range(8)))

    assert len(made) == 1


async def noted(made: list[object], transaction: object) -> None:
    made.append(transaction)


async def test_a_file_that_nothing_used_is_not_made_at_the_start(embedded: CatalogDatabase, tmp_path: Path) -> None:
    embedded.begin()
    await embedded.close()
    assert list(tmp_path.iterdir()) == []

    await embedded.open()
    await embedded.close()
    again = CatalogDatabase(tmp_path / "catalog.db", lambda: [version_record(version())])
    again.begin()
    await again.close()
    with sqlite3.connect(tmp_path / "catalog.db") as file:
        assert file.execute("SELECT model_id FROM versions").fetchall() == [("a1",)]
    file.close()
