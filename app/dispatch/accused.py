"""Requests that lost their replica a second time, while they were alone: guilty of its end, unless it was killed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from app.core.route_table import Loss
from app.dispatch.waiting import Waiting

TRIES_MAX = 4
"""Of a request whose replicas were killed from outside. With two replicas and a kill each second, some request is hit a
second time in every few minutes; a fourth time, once in months."""


class Accused:
    """They wait until the keeper of the replica has said what ended it."""

    def __init__(self) -> None:
        self._replicas: dict[Waiting, str] = {}

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(tuple(self._replicas))

    def hold(self, waiting: Waiting, replica_id: str) -> None:
        self._replicas[waiting] = replica_id

    def released(self, loss: Loss) -> list[Waiting]:
        """Those that waited for this one."""
        return self._take(lambda replica_id: replica_id == loss.replica_id)

    def released_by(self, serving: Collection[str]) -> list[Waiting]:
        """Those whose replica serves on: it was not lost."""
        return self._take(lambda replica_id: replica_id in serving)

    def forget_settled(self) -> None:
        self._replicas = {one: replica_id for one, replica_id in self._replicas.items() if not one.settled}

    def _take(self, is_meant: Callable[[str], bool]) -> list[Waiting]:
        taken = [one for one, replica_id in self._replicas.items() if is_meant(replica_id)]
        for one in taken:
            del self._replicas[one]
        return taken
