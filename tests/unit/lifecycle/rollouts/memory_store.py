"""A store of rollouts in memory, which can be away, and loses nothing when the gateway is killed."""

from __future__ import annotations

from msgspec import structs

from app.core.rollout.records import Rollout, RolloutEvent
from app.errors import CatalogUnavailable, Conflict


class MemoryStore:
    """What a RolloutStore promises. away: every method raises CatalogUnavailable."""

    def __init__(self) -> None:
        self.away = False
        self._rollouts: dict[str, Rollout] = {}
        self._events: dict[str, list[RolloutEvent]] = {}

    async def begin(self, rollout: Rollout, event: RolloutEvent) -> None:
        self._reach()
        for other in self._rollouts.values():
            if other.name == rollout.name and other.is_active:
                raise Conflict(f"`{rollout.name}` has the active rollout {other.id}.")
        self._rollouts[rollout.id] = rollout
        self._events[rollout.id] = [event]

    async def change(self, rollout: Rollout, event: RolloutEvent) -> None:
        self._reach()
        if self._rollouts[rollout.id].generation != rollout.generation - 1:
            raise Conflict("It was changed meanwhile.")
        self._rollouts[rollout.id] = rollout
        self._events[rollout.id].append(event)

    async def get(self, rollout_id: str) -> Rollout | None:
        self._reach()
        return self._rollouts.get(rollout_id)

    async def active(self) -> tuple[Rollout, ...]:
        self._reach()
        return tuple(rollout for rollout in self._rollouts.values() if rollout.is_active)

    async def list(self, name: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        self._reach()
        found = [rollout for rollout in self._rollouts.values() if name in ("", rollout.name)]
        return tuple(reversed(found))[:limit]

    async def events(self, rollout_id: str, after: int = 0) -> tuple[RolloutEvent, ...]:
        self._reach()
        return tuple(event for event in self._events.get(rollout_id, ()) if event.number > after)

    def _reach(self) -> None:
        if self.away:
            raise CatalogUnavailable("The database does not answer.")

    def back_dated(self, rollout_id: str, at: str) -> None:
        """Say that a rollout changed at another time."""
        self._rollouts[rollout_id] = structs.replace(self._rollouts[rollout_id], updated_at=at)
