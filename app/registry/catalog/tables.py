"""The tables of the catalog. docs/catalog.md says what each is for, migrations/versions/ how they came about.

Points in time are text, in the form in which `model.json` has them, which sorts by time.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.core.plain import valid_text
from app.core.rollout.records import FINISHED

NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
IS_ACTIVE = text("state NOT IN ({})".format(", ".join(f"'{state}'" for state in FINISHED)))


def storable(value: Any) -> Any:
    """Return a JSON value in whose texts U+FFFD replaces what a database cannot hold: NUL and lone surrogates."""
    if isinstance(value, str):
        return valid_text(value).replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, (list, tuple)) else value


class StoredText(TypeDecorator[str]):
    """Text of any origin, such as a model's own message."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return storable(value)


class StoredJson(TypeDecorator[Any]):
    """A JSON value; JSONB in PostgreSQL. None is NULL."""

    impl = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return storable(value)


metadata = MetaData(naming_convention=NAMING)
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up in a column of this very type alone


class Tables:
    """Every table, by its name."""

    models = Table(
        "models",
        metadata,
        Column("name", StoredText, primary_key=True),
        Column("created_at", StoredText, nullable=False),
    )
    versions = Table(
        "versions",
        metadata,
        Column("model_id", StoredText, primary_key=True),
        Column("name", StoredText, ForeignKey(models.c.name), nullable=False),
        Column("version", StoredText, nullable=False),
        Column("created_at", StoredText, nullable=False),
        Column("created_by", StoredText, nullable=False),
        Column("parent", StoredText, nullable=False),
        Column("artifact_sha256", StoredText, nullable=False),
        Column("artifact_size_bytes", BigInteger, nullable=False),
        Column("metadata", StoredJson, nullable=False),
        Column("framework", StoredText),
        Column("signature", StoredJson),
        Column("environment_hash", StoredText),
        Index(None, "name", "created_at"),
    )
    aliases = Table(
        "aliases",
        metadata,
        Column("name", StoredText, ForeignKey(models.c.name), primary_key=True),
        Column("alias", StoredText, primary_key=True),
        Column("model_id", StoredText, ForeignKey(versions.c.model_id), nullable=False, index=True),
        Column("generation", Integer, nullable=False),
        Column("updated_at", StoredText, nullable=False),
        Column("updated_by", StoredText, nullable=False),
    )
    alias_history = Table(
        "alias_history",
        metadata,
        Column("name", StoredText, ForeignKey(models.c.name), primary_key=True),
        Column("alias", StoredText, primary_key=True),
        Column("generation", Integer, primary_key=True, autoincrement=False),
        Column("model_id", StoredText, nullable=False),
        Column("at", StoredText, nullable=False),
        Column("by", StoredText, nullable=False),
    )
    rollouts = Table(
        "rollouts",
        metadata,
        Column("id", StoredText, primary_key=True),
        Column("name", StoredText, ForeignKey(models.c.name), nullable=False),
        Column("kind", StoredText, nullable=False),
        Column("state", StoredText, nullable=False),
        Column("stable_id", StoredText, nullable=False),
        Column("candidate_id", StoredText, nullable=False),
        Column("arms", StoredJson, nullable=False),
        Column("policy", StoredJson, nullable=False),
        Column("step", Integer, nullable=False),
        Column("reason", StoredText, nullable=False),
        Column("key", StoredText, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("created_at", StoredText, nullable=False),
        Column("updated_at", StoredText, nullable=False),
        Column("created_by", StoredText, nullable=False),
        Index("uq_rollouts_active_name", "name", unique=True, sqlite_where=IS_ACTIVE, postgresql_where=IS_ACTIVE),
        Index(None, "name", "created_at"),
    )
    rollout_events = Table(
        "rollout_events",
        metadata,
        Column("rollout_id", StoredText, ForeignKey(rollouts.c.id), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("at", StoredText, nullable=False),
        Column("what", StoredText, nullable=False),
        Column("text", StoredText, nullable=False),
        Column("facts", StoredJson, nullable=False),
    )
    experiment_keys = Table(
        "experiment_keys",
        metadata,
        Column("rollout_id", StoredText, ForeignKey(rollouts.c.id), primary_key=True),
        Column("key", StoredText, primary_key=True),
        Column("model_id", StoredText, nullable=False),
        Column("at", StoredText, nullable=False),
    )
    feedback = Table(
        "feedback",
        metadata,
        Column("number", _NUMBER, primary_key=True, autoincrement=True),
        Column("rollout_id", StoredText, ForeignKey(rollouts.c.id), nullable=False),
        Column("model_id", StoredText, nullable=False),
        Column("key", StoredText, nullable=False),
        Column("metric", StoredText, nullable=False),
        Column("value", Double, nullable=False),
        Column("at", StoredText, nullable=False),
        Column("request_id", StoredText),
        Column("is_past", Boolean, nullable=False),
        UniqueConstraint("request_id", "metric"),
        Index(None, "rollout_id", "metric"),
    )
    audit = Table(
        "audit",
        metadata,
        Column("number", _NUMBER, primary_key=True, autoincrement=True),
        Column("at", StoredText, nullable=False),
        Column("actor", StoredText, nullable=False),
        Column("action", StoredText, nullable=False),
        Column("subject", StoredText, nullable=False),
        Column("facts", StoredJson, nullable=False),
        Index(None, "subject", "number"),
    )
