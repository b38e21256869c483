"""Requests whose replica was lost while it was at them, each of which may be what ended it.

A suspect is tried again alone: no other request is on that replica meanwhile, so it can take none along. One at a time
is, and where a second replica is coming only once that serves the rest. Once one of those that were lost together is
found to be the cause, the others are cleared and queue like any request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from app.core.route_table import Loss
from app.dispatch.replica import ReplicaClient
from app.dispatch.request import PendingRequest
from app.errors import ModelCrashed

LOSSES_MAX = 4
"""Replicas that may be lost with a request before it is held to be the cause although somebody else killed them. With
two replicas and a kill each second, some request is hit a second time in every few minutes; a fourth time, once in
months."""


class Suspect:
    """losses: replicas that were lost with it. group: those that were lost with it the first time.

    may_risk_the_last: somebody else ended its replica, so it need not wait for a second one to be there.
    """

    __slots__ = ("group", "losses", "may_risk_the_last", "waiting")

    def __init__(self, waiting: PendingRequest, group: object) -> None:
        self.waiting = waiting
        self.group = group
        self.losses = 1
        self.may_risk_the_last = False


class Suspects:
    """Of one lane. queue: those that wait. line: the replica that is kept for the next one, or has one."""

    def __init__(self) -> None:
        self.queue: deque[Suspect] = deque()
        self.line: ReplicaClient | None = None
        self._tried: Suspect | None = None

    def drop_settled(self) -> None:
        """Those for which nobody waits any more."""
        if any(one.waiting.settled for one in self.queue):
            self.queue = deque(one for one in self.queue if not one.waiting.settled)
        if not self.queue and self._tried is None:
            self.release()

    def next(self, lines: Sequence[ReplicaClient], now: float, *, others_come: bool) -> Suspect | None:
        """The one that is to be sent to `line` now. Keeps a replica free for it, which takes a moment under load.

        others_come: a replica is on its way, for which it has to wait if only one serves.
        """
        self.drop_settled()
        if self._tried is not None or not self.queue:
            return None
        if self.line is None or self.line not in lines or not self.line.usable(now):  # it was taken out, or lost
            self.release()
            free = [line for line in lines if line.usable(now) and not line.is_withheld]
            if not free or (len(free) < 2 and others_come and not self.queue[0].may_risk_the_last):
                return None
            self.line = min(free, key=lambda line: (line.streams, line.batches_away, line.served))
            self.line.keep(True)
        if self.line.batches_away or self.line.has_streams(now):
            return None
        self._tried = self.queue.popleft()
        return self._tried

    def returned(self, suspect: Suspect) -> None:
        """One that was tried is back, whatever became of it."""
        if self._tried is suspect:
            self._tried = None
            if not self.queue:
                self.release()

    def release(self) -> None:
        """The replica that was kept is everybody's again."""
        if self.line is not None:
            self.line.keep(False)
            self.line = None

    def held_up(self) -> Suspect | None:
        """The one that was tried, if it holds its replica up: it is the cause, and the next one need not wait for it."""
        tried, line = self._tried, self.line
        if tried is None or line is None or not line.is_held_up:
            return None
        self._tried = None
        self.release()
        return tried

    def cleared_by(self, cause: Suspect) -> list[PendingRequest]:
        """Those that were lost together with what is found to be the cause."""
        cleared = [one.waiting for one in self.queue if one.group is cause.group]
        self.queue = deque(one for one in self.queue if one.group is not cause.group)
        return cleared


def suspects_of(batch: Sequence[PendingRequest]) -> list[Suspect]:
    """Made of a batch whose replica was lost."""
    group = object()
    return [Suspect(one, group) for one in batch]


def is_cause(suspect: Suspect, loss: Loss | None) -> bool:
    """Of the end of a replica on which it was alone. loss: None where its keeper does not say what ended it."""
    if loss is None:
        return suspect.losses > 1
    return loss.by_itself or suspect.losses >= LOSSES_MAX


def told(name: str, loss: Loss | None) -> ModelCrashed:
    """What the caller of the cause is told."""
    reason = loss.reason if loss is not None else "its connection was lost"
    return ModelCrashed(
        f"The replica of `{name}` was lost while it worked on this request alone: {reason}.",
        hint=f"It is not tried again. Send less in one request, or read the log: prism models logs {name}.",
    )
