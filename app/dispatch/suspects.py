"""Requests whose replica was lost while it worked on them, each of which may be the cause.

A suspect is retried alone: no other request is on that replica meanwhile, so none can be lost with it. Only one suspect
is retried at a time. Where a second replica is starting, the retry waits until that one serves the other requests. Once
one of the requests that were lost together is found to be the cause, the others are cleared and queue like any request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from app.core.route_table import Loss
from app.dispatch.replica import ReplicaClient
from app.dispatch.request import PendingRequest
from app.errors import ModelCrashed

LOSSES_MAX = 4
"""How many replicas may be lost with a request, although each was killed from outside, before the request is held to be
the cause. With two replicas and a kill each second, some request is hit a second time every few minutes; a fourth time,
once in months.
"""


class Suspect:
    """A request that may have ended its replica.

    losses: how many replicas were lost with it. group: identifies the requests that were lost with it the first time.
    may_risk_the_last: its replica was ended from outside, so its retry need not wait for a second replica.
    """

    __slots__ = ("group", "losses", "may_risk_the_last", "request")

    def __init__(self, request: PendingRequest, group: object) -> None:
        self.request = request
        self.group = group
        self.losses = 1
        self.may_risk_the_last = False


class Suspects:
    """The suspects of one lane.

    queue: those that wait. client: the replica that is reserved for the next suspect, or works on one.
    """

    def __init__(self) -> None:
        self.queue: deque[Suspect] = deque()
        self.client: ReplicaClient | None = None
        self._tried: Suspect | None = None

    def drop_settled(self) -> None:
        """Drop the suspects that nobody waits for any more."""
        if any(suspect.request.settled for suspect in self.queue):
            self.queue = deque(suspect for suspect in self.queue if not suspect.request.settled)
        if not self.queue and self._tried is None:
            self.release()

    def next(self, clients: Sequence[ReplicaClient], now: float, *, others_come: bool) -> Suspect | None:
        """Return the suspect to send to `client` now, if any. Reserves a replica for it, which takes a moment under load.

        others_come: whether a replica is starting; if only one serves, the suspect has to wait for it.
        """
        self.drop_settled()
        if self._tried is not None or not self.queue:
            return None
        if self.client is None or self.client not in clients or not self.client.usable(now):  # it was removed or lost
            self.release()
            free = [client for client in clients if client.usable(now) and not client.is_withheld]
            if not free or (len(free) < 2 and others_come and not self.queue[0].may_risk_the_last):
                return None
            self.client = min(free, key=lambda client: (client.streams, client.batches_away, client.served))
            self.client.keep(True)
        if self.client.batches_away or self.client.has_streams(now):
            return None
        self._tried = self.queue.popleft()
        return self._tried

    def returned(self, suspect: Suspect) -> None:
        """Note that a suspect's retry has ended, whatever its outcome."""
        if self._tried is suspect:
            self._tried = None
            if not self.queue:
                self.release()

    def release(self) -> None:
        """Free the reserved replica for all requests again."""
        if self.client is not None:
            self.client.keep(False)
            self.client = None

    def held_up(self) -> Suspect | None:
        """Return the suspect under retry if it holds its replica up, and stop waiting for it: it is the cause."""
        tried, client = self._tried, self.client
        if tried is None or client is None or not client.is_held_up:
            return None
        self._tried = None
        self.release()
        return tried

    def cleared_by(self, cause: Suspect) -> list[PendingRequest]:
        """Remove and return the requests that were lost together with `cause`, which is found to be the cause."""
        cleared = [suspect.request for suspect in self.queue if suspect.group is cause.group]
        self.queue = deque(suspect for suspect in self.queue if suspect.group is not cause.group)
        return cleared


def suspects_of(batch: Sequence[PendingRequest]) -> list[Suspect]:
    """Make suspects of the requests of a batch whose replica was lost."""
    group = object()
    return [Suspect(request, group) for request in batch]


def is_cause(suspect: Suspect, loss: Loss | None) -> bool:
    """Return whether a suspect, alone on its replica, is the cause of its loss.

    loss: None if nobody knows what ended the replica.
    """
    if loss is None:
        return suspect.losses > 1
    return loss.by_itself or suspect.losses >= LOSSES_MAX


def crash_error(name: str, loss: Loss | None) -> ModelCrashed:
    """Return the error for the caller of the request that is the cause."""
    reason = loss.reason if loss is not None else "its connection was lost"
    return ModelCrashed(
        f"The replica of `{name}` was lost while it worked on this request alone: {reason}.",
        hint=f"The request is not retried. Send less in one request, or read the log: `prism logs {name}`.",
    )
