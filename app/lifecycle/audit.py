"""The audit log, as an adapter implements it."""

from __future__ import annotations

from typing import Protocol

from app.core.audit import AuditEntry


class AuditLog(Protocol):
    """What was done, by whom; entries are only added. Every method raises CatalogUnavailable while the database is away."""

    async def add(self, entry: AuditEntry) -> AuditEntry:
        """Record an entry and return it with its number."""
        ...

    async def list(self, subject: str = "", *, limit: int = 100, before: int = 0) -> tuple[AuditEntry, ...]:
        """Return entries, the newest first. subject: only about this one. before: only numbers below it, 0 for all."""
        ...
