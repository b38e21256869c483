"""The store of aliases, as an adapter implements it."""

from __future__ import annotations

from typing import Protocol

from app.core.alias import Alias, AliasChange
from app.core.model import ModelVersion


class AliasStore(Protocol):
    """The aliases of all models and how they changed. Every method raises CatalogUnavailable while the database is away."""

    async def all(self, name: str = "") -> tuple[Alias, ...]:
        """Return the aliases, sorted. name: only this model's."""
        ...

    async def set(
        self, model: ModelVersion, alias: str, *, at: str, by: str = "", generation: int | None = None
    ) -> Alias:
        """Let an alias of the model's name lead to this version, and record it in the history.

        generation: the one that the caller saw, 0 for an alias that does not exist; None sets it in any case.
        Raises BadInput for a reserved word, and Conflict if the alias has another generation. If it leads there
        already, it is returned as it is.
        """
        ...

    async def delete(self, name: str, alias: str, *, at: str, by: str = "", generation: int | None = None) -> Alias:
        """Delete an alias and return what it was. Raises NotFound, and Conflict if it has another generation."""
        ...

    async def history(self, name: str, alias: str = "") -> tuple[AliasChange, ...]:
        """Return the changes of a model's aliases, the newest first. alias: only of this one."""
        ...
