"""Canaries on a virtual clock: what dispatch would count, and every look of the controller."""

from __future__ import annotations

from random import Random

from msgspec import structs

from app.core.rollout.canary import Sight, Versions, begin, decide, start
from app.core.rollout.records import CanaryPolicy, Change, Evidence, Incident, Rollout, RolloutState
from app.core.rollout.trial import Trial, begin_trial

NOW = "2026-11-29T12:00:00.000000Z"
VERSIONS = Versions("1.4.0", "1.5.0")
TICK_SECONDS = 0.25


def sight(trial: Trial | None = None, seconds: float = 0.0, *, stable_serves: bool = True, lost: str = "") -> Sight:
    return Sight(trial, NOW, seconds, VERSIONS, stable_serves, lost)


def pending(policy: CanaryPolicy | None = None) -> Rollout:
    return begin("r1", "fraud", "stable-id", "candidate-id", policy or CanaryPolicy(), VERSIONS, NOW).rollout


def running(policy: CanaryPolicy | None = None) -> Rollout:
    change = start(pending(policy), sight())
    assert change is not None
    return change.rollout


def seen(policy: CanaryPolicy, answers: int, bad: int = 0, cause: str = "status 500", slow: int = 0) -> Trial:
    """The trial of a candidate that answered so, all at once."""
    incidents = tuple(Incident(f"q{number}", cause) for number in range(1, bad + slow + 1))
    return begin_trial(policy, Evidence(), 0.0).after(
        Evidence(answers=answers, bad=bad, slow=slow, incidents=incidents)
    )


class VirtualCanary:
    """A canary whose candidate answers with a constant share of errors, as the controller would judge it."""

    def __init__(self, policy: CanaryPolicy, share_bad: float, per_second: float, seed: int) -> None:
        """per_second: requests for the name; the candidate gets the share of its step."""
        self.rollout = running(policy)
        self.changes: list[Change] = []
        self._random = Random(seed)
        self._share_bad, self._per_second = share_bad, per_second
        self._trial = begin_trial(policy, Evidence(), 0.0)
        self._evidence = Evidence()
        self._due = 0.0
        self.seconds = 0.0

    def tick(self) -> None:
        self.seconds += TICK_SECONDS
        self._due += self._per_second * TICK_SECONDS * self.rollout.arms[1].weight
        answers, self._due = int(self._due), self._due % 1
        bad = sum(self._random.random() < self._share_bad for _ in range(answers))
        count = self._evidence
        self._evidence = structs.replace(count, answers=count.answers + answers, bad=count.bad + bad)
        self._trial = self._trial.after(self._evidence)
        change = decide(self.rollout, sight(self._trial, self.seconds - self._trial.began_at))
        if change is not None:
            if change.rollout.step != self.rollout.step or change.rollout.state is RolloutState.PROMOTED:
                self._trial = self._trial.in_next_step(self.seconds)
            self.rollout = change.rollout
            self.changes.append(change)

    def run(self, seconds: float) -> RolloutState:
        """Go on for so long, or until it is over."""
        while self.seconds < seconds and self.rollout.is_active:
            self.tick()
        return self.rollout.state
