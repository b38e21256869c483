"""The store of rollouts, as an adapter implements it."""

from __future__ import annotations

from typing import Protocol

from app.core.rollout.records import Rollout, RolloutEvent


class RolloutStore(Protocol):
    """The rollouts and what happened to them. Every method raises CatalogUnavailable while the database is away.

    If the database is lost while it works, it may have recorded the change all the same. `begin` and `change` may be
    called again with the same rollout: what is recorded already is not an error.
    """

    async def begin(self, rollout: Rollout, event: RolloutEvent) -> None:
        """Record a new rollout and its first event. Raises Conflict, naming it, if its model has an active one."""
        ...

    async def change(self, rollout: Rollout, event: RolloutEvent) -> None:
        """Record the next generation and its event in one transaction.

        Raises Conflict if another generation was recorded since the one that this was made from.
        """
        ...

    async def get(self, rollout_id: str) -> Rollout | None: ...

    async def active(self) -> tuple[Rollout, ...]:
        """Return every rollout that is not finished, the oldest first."""
        ...

    async def list(self, name: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        """Return rollouts, the newest first. name: only this model's."""
        ...

    async def events(self, rollout_id: str, after: int = 0) -> tuple[RolloutEvent, ...]:
        """Return the events with a greater number than `after`, in order."""
        ...
