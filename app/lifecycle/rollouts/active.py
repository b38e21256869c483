"""One canary that is not finished: its record as it is now, and what was seen of its candidate."""

from __future__ import annotations

import asyncio

from app.core.rollout.canary import Sight, Versions
from app.core.rollout.records import Change, Evidence, Rollout, RolloutState
from app.core.rollout.trial import Trial, begin_trial


class ActiveCanary:
    """The state of one canary in memory.

    rollout: as it acts; the recorded one is a generation behind while `unrecorded` is set, which happens to a rollback
    alone: it acts first. since: when its step or its promotion began, on the controller's clock. changing: held while
    something else than a rollback is recorded.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.trial: Trial | None = None
        self.since = 0.0
        self.unrecorded: Change | None = None
        self.changing = asyncio.Lock()
        self.retry_at = 0.0
        self.tried = asyncio.Event()

    @property
    def is_judged(self) -> bool:
        return self.rollout.is_active and self.rollout.state is not RolloutState.PENDING

    def begin(self, evidence: Evidence, now: float) -> None:
        """Begin the trial of a candidate that gets traffic from now on."""
        self.trial = begin_trial(self.rollout.policy, evidence, now)
        self.since = now

    def next_step(self, now: float) -> None:
        """Count from here on for the next step, or since the promotion."""
        if self.trial is not None:
            self.trial = self.trial.in_next_step(now)
        self.since = now

    def look(self, evidence: Evidence) -> None:
        """Take in what was counted since the last look."""
        if self.trial is not None:
            self.trial = self.trial.after(evidence)

    def sight(
        self, now: float, at: str, versions: Versions, *, stable_serves: bool, lost: str, stable_lost: str
    ) -> Sight:
        """Return what the decisions are made of. at: the time for the record."""
        return Sight(self.trial, at, now - self.since, versions, stable_serves, lost, stable_lost)
