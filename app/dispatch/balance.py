"""Chooses among the replicas of a model. The functions are pure: they look at each replica, and change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """A replica, as a choice sees it; see ReplicaClient.

    batches_away, streams: what it has in hand. served: how many requests it has been sent. is_withheld: whether it is
    sent nothing more for now.
    """

    batches_away: int
    streams: int
    served: int
    is_withheld: bool

    def usable(self, now: float) -> bool: ...

    def has_room(self, now: float) -> bool: ...

    def idle(self, now: float) -> bool: ...


R = TypeVar("R", bound=Candidate)


def replica_for_batch(replicas: Iterable[R], now: float, may_queue: bool) -> R | None:
    """Return the replica with the fewest batches in flight, then the fewest requests served; None if none may be asked.

    may_queue: whether the batch may be sent behind others, to a replica with room; otherwise only an idle one is asked.
    """
    chosen = None
    for replica in replicas:
        if not (replica.has_room(now) if may_queue else replica.idle(now)):
            continue
        if chosen is None or (replica.batches_away, replica.served) < (chosen.batches_away, chosen.served):
            chosen = replica
    return chosen


def replica_for_stream(replicas: Iterable[R], now: float) -> R | None:
    """Return the replica that has the least to do, one that is withheld only if there is no other; None if none is usable."""
    usable = [replica for replica in replicas if replica.usable(now)]
    return min(usable, key=_stream_load) if usable else None


def _stream_load(replica: Candidate) -> tuple[bool, int, int]:
    return replica.is_withheld, replica.streams + replica.batches_away, replica.served
