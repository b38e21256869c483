"""The catalog's database, opened at its first use: SQLAlchemy is imported then, which takes memory and half a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.core.version_record import VersionRecord
from app.errors import CatalogUnavailable
from app.registry.catalog.transaction import Transaction
from app.registry.catalog.versions import record_versions

if TYPE_CHECKING:
    from app.registry.catalog.engine import Engine


log = structlog.get_logger(__name__)


class CatalogDatabase:
    """The database and whether it is open.

    Each use of a database that is not open tries to open it, so it is used again as soon as it is back. Opening it
    migrates the tables and records the versions that it does not know.
    """

    def __init__(self, place: Path | str, versions: Callable[[], Iterable[VersionRecord]] = tuple) -> None:
        """place: the file of SQLite, or the URL of PostgreSQL. versions: those that exist on this host."""
        self._place = place
        self._versions = versions
        self._engine: Engine | None = None
        self._is_open = False
        self._opening: asyncio.Task[Engine] | None = None

    def begin(self) -> None:
        """Open the database in the background, if there is one; a SQLite file that nothing used yet is not made."""
        if self.exists:
            self._start().add_done_callback(_tell)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """Give a transaction that only reads. Raises CatalogUnavailable."""
        async with self._transaction(writes=False) as transaction:
            yield transaction

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """Give a transaction, which is committed at the end and rolled back if an exception leaves it.

        Raises CatalogUnavailable, and ConstraintFailed if a constraint of the tables refuses a row.
        """
        async with self._transaction(writes=True) as transaction:
            yield transaction

    async def open(self) -> None:
        """Open the database unless it is open. Raises CatalogUnavailable."""
        await self._opened()

    async def close(self) -> None:
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._engine is not None:
            await self._engine.dispose()
        self._engine, self._is_open = None, False

    @asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[Transaction]:
        engine = await self._opened()
        try:
            async with engine.transaction(writes=writes) as transaction:
                yield transaction
        except CatalogUnavailable:
            self._is_open = False  # it may come back as another one, without tables
            raise

    async def _opened(self) -> Engine:
        if self._engine is not None and self._is_open:
            if self.exists:
                return self._engine
            await self._engine.dispose()  # its connections would go on with the file that was removed
            self._is_open = False
        return await asyncio.shield(self._start())

    @property
    def exists(self) -> bool:
        """Whether there is a database; a SQLite file is made at its first use."""
        return not isinstance(self._place, Path) or self._place.exists()

    def _start(self) -> asyncio.Task[Engine]:
        """Return the attempt to open the database: one for all who want it at the same time."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open(), name="open the catalog")
            self._opening.add_done_callback(_error_of)
        return self._opening

    async def _open(self) -> Engine:
        if self._engine is None:
            self._engine = await asyncio.to_thread(_engine, self._place)
        await self._engine.prepare()
        async with self._engine.transaction(writes=True) as transaction:
            await record_versions(transaction, self._versions())
        self._is_open = True
        return self._engine


def _error_of(opening: asyncio.Task[Engine]) -> BaseException | None:
    """Return why the database could not be opened; asyncio complains of a task whose exception nobody takes."""
    return None if opening.cancelled() else opening.exception()


def _tell(opening: asyncio.Task[Engine]) -> None:
    if (error := _error_of(opening)) is not None:
        log.warning("going on without the catalog, which is opened again when it is needed", error=str(error))


def _engine(place: Path | str) -> Engine:
    from app.registry.catalog.engine import Engine

    return Engine(place)
