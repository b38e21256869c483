"""Aliases are moved from version to version, and each move is recorded."""

from __future__ import annotations

import asyncio

import pytest

from app.core.alias import Alias, AliasChange
from app.errors import BadInput, Conflict, NotFound
from app.lifecycle.aliases import AliasStore
from app.lifecycle.version_records import VersionRecords
from app.registry.catalog.aliases import SqlAliasStore
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.versions import SqlVersionRecords
from tests.integration.catalog.records_lab import at, version


@pytest.fixture
def aliases(database: CatalogDatabase) -> AliasStore:
    return SqlAliasStore(database)


@pytest.fixture
def versions(database: CatalogDatabase) -> VersionRecords:
    return SqlVersionRecords(database)


async def test_an_alias_is_moved_and_its_history_tells_by_whom(aliases: AliasStore) -> None:
    await aliases.set(version("a1"), "champion", at=at(1), by="ada")
    moved = await aliases.set(version("a2", "2.0.0"), "champion", at=at(2), by="bob", generation=1)

    assert moved == Alias("fraud", "champion", "a2", 2, at(2), "bob")
    assert moved.ref == "fraud@champion"
    assert await aliases.all() == (moved,)
    assert await aliases.history("fraud", "champion") == (
        AliasChange("fraud", "champion", 2, "a2", at(2), "bob"),
        AliasChange("fraud", "champion", 1, "a1", at(1), "ada"),
    )


async def test_an_alias_that_leads_there_already_is_left_alone(aliases: AliasStore) -> None:
    first = await aliases.set(version(), "champion", at=at(1), by="ada")

    assert await aliases.set(version(), "champion", at=at(2), by="bob") == first
    assert len(await aliases.history("fraud")) == 1


async def test_a_move_of_a_generation_that_is_gone_is_refused(aliases: AliasStore) -> None:
    await aliases.set(version("a1"), "champion", at=at(1))

    with pytest.raises(Conflict, match="`fraud@champion` has changed meanwhile"):
        await aliases.set(version("a2"), "champion", at=at(2), generation=0)
    with pytest.raises(Conflict):
        await aliases.delete("fraud", "champion", at=at(2), generation=2)

    assert [alias.model_id for alias in await aliases.all("fraud")] == ["a1"]


async def test_of_two_who_make_an_alias_at_once_one_succeeds(aliases: AliasStore) -> None:
    results = await asyncio.gather(
        aliases.set(version("a1"), "champion", at=at(1), generation=0),
        aliases.set(version("a2"), "champion", at=at(1), generation=0),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["Alias", "Conflict"]
    assert len(await aliases.history("fraud")) == 1


async def test_a_deleted_alias_keeps_its_history_and_goes_on_counting(aliases: AliasStore) -> None:
    await aliases.set(version(), "champion", at=at(1))
    gone = await aliases.delete("fraud", "champion", at=at(2), by="ada", generation=1)
    assert gone.model_id == "a1"
    assert await aliases.all() == ()

    again = await aliases.set(version(), "champion", at=at(3), generation=0)

    assert again.generation == 3
    assert [(change.generation, change.model_id) for change in await aliases.history("fraud")] == [
        (3, "a1"),
        (2, ""),
        (1, "a1"),
    ]
    with pytest.raises(NotFound, match="fraud@gone"):
        await aliases.delete("fraud", "gone", at=at(4))


@pytest.mark.parametrize("word", ["latest", "Latest", "v1", "V12", "1.0.0", "", "a b", "a@b", "ä", "x" * 64])
async def test_what_could_be_taken_for_a_version_is_no_alias(aliases: AliasStore, word: str) -> None:
    with pytest.raises(BadInput, match="cannot be an alias") as refused:
        await aliases.set(version(), word, at=at(1))

    assert refused.value.hint


async def test_a_version_that_an_alias_leads_to_is_not_forgotten(aliases: AliasStore, versions: VersionRecords) -> None:
    await aliases.set(version("a1"), "champion", at=at(1))
    await aliases.set(version("a1"), "staging", at=at(1))
    await aliases.set(version("a2"), "canary", at=at(1))

    with pytest.raises(Conflict, match="`fraud@champion`, `fraud@staging` lead to this version"):
        await versions.forget("a1")
    assert await versions.get("a1") is not None

    await aliases.set(version("a2"), "champion", at=at(2))
    await aliases.delete("fraud", "staging", at=at(2))
    await versions.forget("a1")

    assert [record.model_id for record in await versions.list("fraud")] == ["a2"]
    assert len(await aliases.history("fraud", "champion")) == 2
