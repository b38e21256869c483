"""The connection to the catalog's database, with its migrations. Imports SQLAlchemy: `database` does so when needed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.database_url import without_password
from app.errors import CatalogUnavailable
from app.registry.catalog.tables import Tables
from app.registry.catalog.transaction import ConstraintFailed, Transaction

HEAD = "0001_initial"
"""The newest migration, so that an up-to-date database is opened without importing Alembic."""
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 10
SQLITE_BUSY_TIMEOUT_MS = 5000
OF_THE_DATABASE = ("42P01", "42501", "3F000")
"""SQLSTATEs that count as programming errors, but no statement of ours is at fault: a table, a right or the schema is missing."""
READS_ONLY = "prism_reads_only"

MEND_FILE = {
    "SQLITE_FULL": "Free some space on its disk",
    "SQLITE_READONLY": "Make the file and its folder writable",
    "SQLITE_CANTOPEN": "Make the file and its folder readable and writable for the server",
    "SQLITE_BUSY": "Another program has locked the file: end it",
    "SQLITE_CORRUPT": "Move the file away; the next one is made from the models' own records",
    "SQLITE_NOTADB": "Move the file away; the next one is made from the models' own records",
}


def encode_json(value: Any) -> str:
    """Encode as JSON that every database takes: NaN and infinities become null."""
    return msgspec.json.encode(value).decode()


class Engine:
    """The connections to one database. place: the file of SQLite, or the URL of PostgreSQL."""

    def __init__(self, place: Path | str) -> None:
        self._place = place
        self._engine = _sqlite(place) if isinstance(place, Path) else _postgresql(place)
        self._insert = sqlite.insert if isinstance(place, Path) else postgresql.insert

    async def prepare(self) -> None:
        """Bring the tables to their newest form. Raises CatalogUnavailable."""
        with self._faults():
            if isinstance(self._place, Path):
                await asyncio.to_thread(_own_file, self._place)
            async with self._engine.connect() as connection:
                current = await connection.run_sync(_revision)
            if current != HEAD:
                upgrade = await asyncio.to_thread(_load_upgrade)
                async with self._engine.begin() as connection:
                    await connection.run_sync(upgrade)

    @asynccontextmanager
    async def transaction(self, *, writes: bool) -> AsyncIterator[Transaction]:
        """Give a transaction, which is committed at the end and rolled back if an exception leaves it.

        Raises CatalogUnavailable, and ConstraintFailed if a constraint of the tables refuses a row.
        """
        with self._faults():
            async with self._engine.connect() as connection:
                if not writes:
                    await connection.execution_options(**{READS_ONLY: True})
                async with connection.begin():
                    yield Transaction(connection, Tables, self._insert)

    async def dispose(self) -> None:
        await self._engine.dispose()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Translate what the database's libraries raise."""
        try:
            yield
        except IntegrityError as error:
            raise ConstraintFailed(str(error.orig)) from error
        except (DataError, ProgrammingError) as error:
            if _sqlstate(error) not in OF_THE_DATABASE:
                raise
            raise self._unavailable(error) from error
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> CatalogUnavailable:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")
        if isinstance(self._place, Path):
            code = next((name for one in _chain(cause) if (name := getattr(one, "sqlite_errorname", ""))), "")
            mend = next(
                (text for name, text in MEND_FILE.items() if code.startswith(name)), MEND_FILE["SQLITE_CANTOPEN"]
            )
            place = str(self._place)
        else:
            mend, place = "Start the database, or correct DATABASE_URL", f"at {without_password(self._place)}"
        return CatalogUnavailable(
            f"The catalog {place} cannot be used: {reason}.",
            hint=f"{mend}, then try again. Predictions do not need it.",
        )


def _load_upgrade() -> Callable[[Connection], None]:
    from app.registry.catalog.migrate import upgrade

    return upgrade


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", ""))


def _postgresql(url: str) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        json_serializer=encode_json,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": STATEMENT_TIMEOUT_SECONDS,
            "server_settings": {"application_name": "prism"},
        },
    )


def _sqlite(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=2,
        max_overflow=2,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        json_serializer=encode_json,
    )
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _configure(connection: Any, record: object) -> None:
    """Set a new connection to SQLite up. Without an isolation level, sqlite3 begins no transactions by itself."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Lock the file at the start of what may write: a transaction that locks it midway cannot wait for another."""
    reads_only = connection.get_execution_options().get(READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _own_file(path: Path) -> None:
    """Make the file, readable by its owner only, if it does not exist. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _revision(connection: Connection) -> str | None:
    """Return the migration that the tables are at; None for a database without ours."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
