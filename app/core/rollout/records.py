"""What is recorded of a rollout: which versions, in which state, by which policy, and what happened."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct, structs

from app.core.route import Arm


class RolloutKind(StrEnum):
    CANARY = "canary"
    SHADOW = "shadow"
    EXPERIMENT = "experiment"


class RolloutState(StrEnum):
    """The place of a rollout on its way.

    PENDING: the candidate is started and probed, and gets no traffic yet. RUNNING: it gets the share of its step; with a
    reason, it has passed its last step and waits for its promotion.
    HOLDING: its step is over in time but not in evidence; the reason says what is missing. PAUSED: as it is, until it is
    resumed, but still judged. PROMOTED: the candidate gets all, the stable version stays warm and can take over at once.
    DONE: over, the candidate is the stable version now, or a shadow or experiment was stopped. ROLLED_BACK: the stable
    version gets all again. FAILED: the candidate was never ready, and no traffic moved.
    """

    PENDING = "pending"
    RUNNING = "running"
    HOLDING = "holding"
    PAUSED = "paused"
    PROMOTED = "promoted"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


FINISHED = (RolloutState.DONE, RolloutState.ROLLED_BACK, RolloutState.FAILED)
"""A rollout in one of these states changes no more; in any other it is active, and its name can have no second one."""


class CanaryPolicy(Struct, frozen=True):
    """How a canary goes on and when it goes back.

    steps: shares of the candidate in percent, rising; without a last one of 100 it waits for a promotion at the last step.
    threshold: the share of bad answers above which it is rolled back. bake_seconds: how long each step lasts at least.
    overdue_ms: an answer that takes longer is bad; None: derived from the stable version's own latencies.
    rescue: whether the stable version answers what the candidate could not, within the same deadline.
    warm_seconds: how long the stable version stays warm after a promotion.
    """

    steps: tuple[float, ...] = (5.0,)
    threshold: float = 0.02
    bake_seconds: float = 30.0
    overdue_ms: float | None = None
    rescue: bool = True
    warm_seconds: float = 600.0


class Rollout(Struct, frozen=True):
    """One rollout, as the catalog keeps it. Immutable: a change makes a new record of the next generation.

    name: of the model. stable_id, candidate_id: model_ids; for an experiment the stable version is the one that had the
    traffic, and the candidate the one that takes it once the experiment is stopped, "" before. step: index into the policy's steps. arms: the wanted split now; of an experiment, the one
    that it ran with, the control first. reason: why it is in
    its state, for a person, with numbers. key: for an experiment, what its callers are told apart by. generation: counts
    changes, from 1; a change is only saved on top of the generation that it was made from. created_by: caller's name.
    """

    id: str
    name: str
    kind: RolloutKind
    state: RolloutState
    stable_id: str
    candidate_id: str
    arms: tuple[Arm, ...]
    created_at: str
    updated_at: str
    policy: CanaryPolicy = CanaryPolicy()
    step: int = 0
    reason: str = ""
    key: str = ""
    generation: int = 1
    created_by: str = ""

    @property
    def is_active(self) -> bool:
        return self.state not in FINISHED

    @property
    def versions(self) -> frozenset[str]:
        """The model_ids of all its versions."""
        return frozenset((self.stable_id, self.candidate_id, *(arm.model_id for arm in self.arms))) - {""}


class RolloutEvent(Struct, frozen=True):
    """Something that happened to a rollout; never changed. number: from 1, in order, per rollout.

    what: a state that it came to, or another fixed word. text: for a person. facts: the numbers behind it.
    """

    rollout_id: str
    number: int
    at: str
    what: str
    text: str
    facts: dict[str, Any] = {}


class Change(Struct, frozen=True):
    """A rollout as it is next, and what happened to it: recorded together. The event's number is the generation."""

    rollout: Rollout
    event: RolloutEvent


class Incident(Struct, frozen=True):
    """One bad answer of a candidate. cause: `status 500`, `lost`, `overdue`, `slow`, `invalid`, `not finite`, `differs`."""

    request_id: str
    cause: str


class ShadowAnswer(Struct, frozen=True):
    """One answer of a pair, as the runtime wrote it. body: b"" if there was only an error. is_binary: V2's binary form."""

    status: int
    body: bytes
    seconds: float
    is_binary: bool = False


class ShadowPair(Struct, frozen=True):
    """What production and the shadow made of the same request. again: production's answer when asked a second time."""

    request_id: str
    production: ShadowAnswer
    shadow: ShadowAnswer
    again: ShadowAnswer | None = None

    @property
    def size_bytes(self) -> int:
        answers = (self.production, self.shadow, self.again)
        return sum(len(answer.body) for answer in answers if answer is not None)


class Evidence(Struct, frozen=True):
    """What dispatch counted of a candidate since its rollout began; each number only grows.

    answers: of the candidate that tell something of it, bad ones included: m of the verdict. bad: those that the stable
    version could answer and the candidate could not, or not in time, or not sensibly: k of the verdict. both_failed: left
    out of both, as the caller or the host is at fault. slow: answers that took longer than the bound though within the
    deadline. mirrored: how many of the answers were to copies of requests that the stable version answered.
    incidents: the latest bad ones, the newest last. rescued: requests of callers that the stable version answered in
    the candidate's place. dropped: requests that were not copied, or whose answers were not compared, as the bounds on
    copies were reached. sent: copies that the candidate or the mirror was sent.
    """

    answers: int = 0
    bad: int = 0
    both_failed: int = 0
    slow: int = 0
    mirrored: int = 0
    incidents: tuple[Incident, ...] = ()
    rescued: int = 0
    dropped: int = 0
    sent: int = 0


def changed(
    rollout: Rollout,
    state: RolloutState,
    now: str,
    reason: str,
    facts: dict[str, Any] | None = None,
    *,
    what: str = "",
    text: str = "",
    **fields: Any,
) -> Change:
    """Return the next generation of a rollout, and its event.

    what, text: of the event; default: the state and the reason. fields: others of the rollout that change.
    """
    generation = rollout.generation + 1
    coming = structs.replace(rollout, state=state, reason=reason, updated_at=now, generation=generation, **fields)
    return Change(coming, RolloutEvent(rollout.id, generation, now, what or state, text or reason, facts or {}))
