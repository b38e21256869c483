"""Every test of the catalog runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.registry.catalog.database import CatalogDatabase
from tests.integration.catalog.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty catalog is: the file of SQLite, or the URL of PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "folder with 100% ? in its name" / "catalog.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_database()


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[CatalogDatabase]:
    database = CatalogDatabase(place)
    yield database
    await database.close()
