"""Brings a database to the newest form of the tables, with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from app.errors import CatalogUnavailable

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = 0x505249534D  # "PRISM": any number that other programs on the same PostgreSQL are unlikely to lock


def config(connection: Connection) -> Config:
    """Return the configuration of Alembic for an open connection."""
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate within the connection's transaction. Gateways that start at the same time wait for each other.

    Raises CatalogUnavailable for tables that a newer PRISM made, and whatever the database raises.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    try:
        command.upgrade(config(connection), revision)
    except CommandError as error:
        raise CatalogUnavailable(
            f"The catalog has tables of a form that this PRISM does not know: {error}.",
            hint="A newer PRISM made them: run that one, or let this one use another database.",
        ) from error


def downgrade(connection: Connection, revision: str) -> None:
    command.downgrade(config(connection), revision)
