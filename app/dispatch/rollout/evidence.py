"""Counts what the answers of a candidate say about it. Plain numbers, as each answer is counted."""

from __future__ import annotations

from collections import deque
from typing import TypeGuard

from app.core.rollout.records import Evidence, Incident
from app.dispatch.request import Reply
from app.errors import ModelCrashed, PrismError, ReplicaProtocolError, ReplicaTimeout, ReplicaUnavailable

INCIDENTS_MAX = 20

Outcome = Reply | PrismError
"""What a version made of a request: its answer, or the error that kept it from one."""


class Ledger:
    """The evidence of one rollout, while it grows.

    finite_only: False once the stable version, too, gave a value that is not finite.
    """

    __slots__ = (
        "answers",
        "bad",
        "both_failed",
        "dropped",
        "finite_only",
        "incidents",
        "mirrored",
        "rescued",
        "sent",
        "slow",
    )

    def __init__(self) -> None:
        self.answers = self.bad = self.both_failed = self.slow = self.mirrored = self.rescued = self.dropped = 0
        self.sent = 0
        self.incidents: deque[Incident] = deque(maxlen=INCIDENTS_MAX)
        self.finite_only = True

    def count_good(self, is_slow: bool) -> None:
        self.answers += 1
        self.slow += is_slow

    def count_bad(self, request_id: str, cause: str) -> None:
        self.answers += 1
        self.bad += 1
        self.incidents.append(Incident(request_id, cause))

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            answers=self.answers,
            bad=self.bad,
            both_failed=self.both_failed,
            slow=self.slow,
            mirrored=self.mirrored,
            incidents=tuple(self.incidents),
            rescued=self.rescued,
            dropped=self.dropped,
            sent=self.sent,
        )


def has_succeeded(outcome: Outcome) -> TypeGuard[Reply]:
    return isinstance(outcome, Reply) and outcome.status < 400


def is_servers_fault(outcome: Outcome) -> bool:
    """Return whether a failure says something about the version even if no other one was asked the same."""
    return outcome.status >= 500


def cause_of(outcome: Outcome) -> str:
    """Return the cause of a failure, as an `Incident` names it."""
    if isinstance(outcome, ReplicaProtocolError):
        return "invalid"
    if isinstance(outcome, ReplicaTimeout):
        return "overdue"
    if isinstance(outcome, ReplicaUnavailable | ModelCrashed):
        return "lost"
    return f"status {outcome.status}"
