"""The records of versions in the catalog, as an adapter implements them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from app.core.version_record import VersionRecord


class VersionRecords(Protocol):
    """The versions that the catalog knows. Every method raises CatalogUnavailable while the database is away."""

    async def record(self, versions: Iterable[VersionRecord]) -> None:
        """Record versions, and the facts of those that are known already and had not been found out yet.

        A recorded fact never changes.
        """
        ...

    async def get(self, model_id: str) -> VersionRecord | None: ...

    async def list(self, name: str) -> tuple[VersionRecord, ...]:
        """Return the versions of a model, the newest first."""
        ...

    async def forget(self, model_id: str) -> None:
        """Remove a version that is deleted. Raises Conflict, naming them, if aliases lead to it."""
        ...
