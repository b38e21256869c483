"""What the stores of the catalog work with: a transaction, and the error that a constraint raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    from sqlalchemy import Row, Table
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.registry.catalog.tables import Tables

    Insert = Callable[[Table], postgresql.Insert | sqlite.Insert]

T = TypeVar("T")


class Transaction(NamedTuple):
    """A transaction of the database, and what its statements are made from.

    insert: begins an INSERT of the database's own dialect, which can leave out a row that is there already.
    """

    connection: AsyncConnection
    tables: type[Tables]
    insert: Insert


def as_record(row: Row[Any], kind: type[T]) -> T:
    """Return a row of a table as the record whose fields its columns are."""
    return msgspec.convert({str(name): value for name, value in row._mapping.items()}, kind)


class ConstraintFailed(Exception):
    """A constraint of the tables refused a row: it exists already, or what it refers to does not."""
