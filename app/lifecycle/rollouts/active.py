"""One canary that is not finished: its record as it is now, and what was seen of its candidate."""

from __future__ import annotations

import asyncio

from app.core.rollout.records import Evidence, Rollout, RolloutState
from app.core.rollout.trial import Trial, begin_trial


class ActiveCanary:
    """The state of one canary in memory.

    rollout: as it acts; a rollback acts before it is recorded. trial: None until the candidate gets traffic. since:
    when its step or its promotion began, on the controller's clock. changing: held while something else than a rollback
    is recorded. tried: set once the record of a rollback was tried.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.trial: Trial | None = None
        self.since = 0.0
        self.retry_at = 0.0
        self.changing = asyncio.Lock()
        self.tried = asyncio.Event()

    @property
    def is_judged(self) -> bool:
        return self.rollout.is_active and self.rollout.state is not RolloutState.PENDING and self.trial is not None

    def enter_step(self, now: float) -> None:
        """Count from here on for the step that the traffic follows now, or since the promotion.

        At first it is all that dispatch counts, as it counts from 0 for each rollout.
        """
        first = begin_trial(self.rollout.policy, Evidence(), now)
        self.trial = first if self.trial is None else self.trial.in_next_step(now)
        self.since = now

    def look(self, evidence: Evidence) -> None:
        """Take in what was counted since the last look."""
        if self.trial is not None:
            self.trial = self.trial.after(evidence)
