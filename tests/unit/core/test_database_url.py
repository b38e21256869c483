"""The URL of the catalog's database is checked at the start, and its password is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.loading import load_settings
from app.core.database_url import database_url, without_password
from app.errors import InvalidSetting

URL = "postgresql+asyncpg://prism:s3cret%40@db.example:5432/prism"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (URL, URL),
        (f"{URL}?ssl=require", f"{URL}?ssl=require"),
        (f"{URL}?sslmode=verify-full", f"{URL}?ssl=verify-full"),
        ("postgresql+asyncpg://[::1]/prism", "postgresql+asyncpg://[::1]/prism"),
    ],
)
def test_a_database_of_postgresql_is_taken(given: str, used: str) -> None:
    assert database_url(given) == used


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("postgres://prism:s3cret@db/prism", "does not begin with postgresql+asyncpg://"),
        ("mysql://prism:s3cret@db/prism", "does not begin with postgresql+asyncpg://"),
        ("s3cret", "does not begin with postgresql+asyncpg://"),
        ("postgresql+asyncpg://prism:s3cret@/prism", "names no host"),
        ("postgresql+asyncpg://prism:s3cret@db:0/prism", "names no host"),
        ("postgresql+asyncpg://prism:s3cret@db:port/prism", "is not a URL like"),
        ("postgresql+asyncpg://prism:s3cret@[db/prism", "is not a URL like"),
        ("postgresql+asyncpg://prism:s3cret@db/", "names no database"),
        (f"{URL}?ssl=s3cret", "has the option ssl; only ssl= is taken"),
        (f"{URL}?pool_size=5", "has the option pool_size; only ssl= is taken"),
    ],
)
def test_another_url_stops_the_start_and_its_password_is_not_told(
    given: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", given)

    with pytest.raises(InvalidSetting) as refused:
        load_settings()

    assert refused.value.detail.startswith(f"DATABASE_URL: {reason}")
    assert "s3cret" not in str(refused.value.problem())


def test_the_password_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    settings = load_settings()

    assert settings.catalog_place == URL
    assert "s3cret" not in repr(settings)
    assert without_password(URL) == "db.example:5432/prism"


def test_without_a_url_the_catalog_is_a_file_beside_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    settings = load_settings(home=Path("/data"))

    assert settings.catalog_place == Path("/data/app/registry/catalog.db")
