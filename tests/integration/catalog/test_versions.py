"""The catalog knows the versions that `model.json` tells of; what was recorded of one never changes."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from app.core.environment import Lock
from app.core.inspection import Format, Inspection
from app.core.signature import Signature, Tensor
from app.core.version_record import version_record
from app.registry.catalog.aliases import SqlAliasStore
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.versions import SqlVersionRecords
from tests.integration.catalog.records_lab import at, version

SIGNATURE = Signature("table", (Tensor("amount", "FP64", (-1, 1)),), named=True, classes=(0, 1))
LOCK = Lock("3.11", "scikit-learn==1.8.0\n")


async def test_a_version_is_read_with_its_lineage(database: CatalogDatabase) -> None:
    store = SqlVersionRecords(database)
    metadata = {"auc": 0.91, "git_commit": "4f2a9c1", "text": "a \0"}
    facts = {"metadata": metadata, "parent": "0.9.0", "created_by": "ada"}
    model = version(inspection=Inspection(format=Format.JOBLIB), signature=SIGNATURE, lock=LOCK, **facts)

    await store.record([version_record(model)])

    record = await store.get("a1")
    assert record is not None
    assert structs.asdict(record) == {
        **{"model_id": "a1", "name": "fraud", "version": "1.0.0", "created_at": at(1)},
        **{"created_by": "ada", "parent": "0.9.0", "artifact_sha256": "sha-a1", "artifact_size_bytes": 1234},
        **{"framework": "joblib", "environment_hash": LOCK.hash, "signature": record.signature},
        "metadata": {**metadata, "text": "a \ufffd"},
    }
    assert record.signature is not None
    assert record.signature["inputs"][0]["name"] == "amount"
    assert await store.get("a9") is None


async def test_a_fact_is_recorded_when_it_is_found_out_and_never_changes(database: CatalogDatabase) -> None:
    store = SqlVersionRecords(database)
    await store.record([version_record(version(created_by="ada"))])
    await store.record([version_record(version(lock=LOCK, created_by="bob"))])
    await store.record([version_record(version(lock=Lock("3.12", "numpy==2.4.0\n")))])

    record = await store.get("a1")

    assert record is not None
    assert (record.environment_hash, record.created_by) == (LOCK.hash, "ada")


async def test_the_versions_of_this_host_are_recorded_when_the_catalog_is_opened(place: Path | str) -> None:
    models = [version(f"a{number}", f"{number}.0.0") for number in range(1, 4)] + [version("a4", name="churn")]
    database = CatalogDatabase(place, lambda: map(version_record, models))
    store = SqlVersionRecords(database)

    assert [record.model_id for record in await store.list("fraud")] == ["a3", "a2", "a1"]
    assert [record.model_id for record in await store.list("churn")] == ["a4"]
    await SqlAliasStore(database).set(models[0], "champion", at=at(5))
    await database.close()

    models.append(version("a5", name="churn"))
    assert [record.model_id for record in await store.list("churn")] == ["a5", "a4"]
    await database.close()


async def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    database = CatalogDatabase(file, lambda: [version_record(version())])
    store = SqlVersionRecords(database)
    assert await store.get("a1")

    for path in tmp_path.iterdir():
        path.unlink()

    assert await store.get("a1")
    assert file.exists()
    await database.close()
