"""A gateway that does not use the catalog pays for none of its libraries."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.imports_lab import ROOT

PROGRAM = """
import sys
from pathlib import Path
import app.main
from app.registry.catalog import aliases, audit, database, experiments, rollouts, versions

catalog = database.CatalogDatabase(Path("nowhere/catalog.db"))
stores = aliases.SqlAliasStore, audit.SqlAuditLog, experiments.SqlExperimentStore, rollouts.SqlRolloutStore
for store in (*stores, versions.SqlVersionRecords):
    store(catalog)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"sqlalchemy", "alembic", "mako", "aiosqlite", "asyncpg"}))
"""


def test_the_server_and_the_stores_are_made_without_the_libraries_of_databases() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.stdout == "[]\n", done.stderr
