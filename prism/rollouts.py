"""Rollouts as the API describes them, and the requests for them; both clients use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from msgspec import Struct, field

from prism.errors import InvalidRequest, NotFoundError
from prism.requests import Call, encode
from prism.responses import Answer, decode, items, record

ENDED = frozenset({"done", "rolled_back", "failed"})
"""States in which a rollout changes no more."""

DECIDED = ENDED | {"promoted"}
"""States in which all requests go to one version."""

Action = Literal["promote", "rollback", "pause", "resume"]


class Side(Struct, frozen=True):
    """One of the two versions of a rollout."""

    version: str = ""
    model_id: str = ""


class Incident(Struct, frozen=True):
    """One bad answer of a candidate. cause: such as "status 500", "overdue" or "differs"."""

    request_id: str = ""
    cause: str = ""


class Evidence(Struct, frozen=True):
    """Counts of a candidate's answers since its step began.

    bad: those that the stable version could answer and the candidate could not. both_failed: left out of the verdict.
    slow: later than the bound, though in time. mirrored: answers to copies of requests. incidents: the latest bad ones.
    """

    answers: int = 0
    bad: int = 0
    both_failed: int = 0
    slow: int = 0
    mirrored: int = 0
    incidents: list[Incident] = []


class Rollout(Struct, frozen=True):
    """Rollout of a model.

    state: pending, running, holding, paused, promoted, done, rolled_back or failed. reason: why, for a person.
    percentage: the candidate's share of the requests now. step: index into `steps`. missing: the evidence that the step
    lacks. bad_share_bound: the share of bad answers is below it with 95 % confidence. seconds: since the step began.
    """

    id: str
    name: str = ""
    kind: str = ""
    state: str = ""
    reason: str | None = None
    stable: Side = Side()
    candidate: Side = Side()
    percentage: float = 0.0
    step: int = 0
    steps: list[float] = []
    bake_seconds: float = 0.0
    auto_rollback_threshold: float = 0.0
    missing: str | None = None
    evidence: Evidence | None = None
    bad_share_bound: float | None = None
    seconds: float | None = None
    created_at: str = ""
    updated_at: str = ""
    created_by: str | None = None
    generation: int = 0
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> dict[str, float]:
        """Return the share of the requests in percent, by version number; the stable version comes first."""
        return {self.stable.version: 100.0 - self.percentage, self.candidate.version: self.percentage}

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def is_decided(self) -> bool:
        """Return whether all requests go to one version. One that was promoted can still be rolled back."""
        return self.state in DECIDED


class RolloutEvent(Struct, frozen=True):
    """Something that happened to a rollout. what: a state, or "step" or "passed". text: for a person. at: RFC 3339."""

    number: int
    at: str = ""
    what: str = ""
    text: str = ""
    facts: dict[str, Any] = {}
    document: dict[str, Any] = field(default_factory=dict)


class CanaryOptions(TypedDict, total=False):
    """Options of a canary, beside its version and share.

    steps: rising shares in percent that it goes through by itself; None to keep the first until it is promoted.
    bake_seconds: how long each step lasts at least. overdue_ms: an answer that takes longer is bad. rescue: whether the
    stable version answers what the candidate could not. warm_seconds: how long the stable version stays warm after a
    promotion. allow_signature_change: begin although callers of the stable version would break.
    """

    steps: Sequence[float] | None
    bake_seconds: float | None
    overdue_ms: float | None
    rescue: bool | None
    warm_seconds: float | None
    allow_signature_change: bool | None


def begin(
    name: str,
    candidate_version: str,
    initial_percentage: float | None,
    auto_rollback_threshold: float | None,
    options: CanaryOptions,
) -> Call[Rollout]:
    """Begin a canary; a value that is None is left to the server. Not retried: the second one would be refused."""
    given = {
        "name": name,
        "candidate_version": candidate_version,
        "initial_percentage": initial_percentage,
        "auto_rollback_threshold": auto_rollback_threshold,
        **options,
    }
    body = encode({field: value for field, value in given.items() if value is not None})
    return Call("POST", "/deployments/canary", rollout, body=body, patience="deploy", repeatable=False)


def listed(name: str) -> Call[list[Rollout]]:
    """List rollouts, the newest first. name: only this model's; "" for all."""
    return Call("GET", "/deployments", rollouts, params={"name": name} if name else {})


def current(rollout_id: str) -> Call[Rollout]:
    return Call("GET", f"/deployments/{_id(rollout_id)}", rollout)


def act(rollout_id: str, action: Action) -> Call[Rollout]:
    """Promote, roll back, pause or resume a canary. A repeated call answers the same."""
    return Call("POST", f"/deployments/canary/{_id(rollout_id)}/{action}", rollout)


def events(rollout_id: str, after: int = 0) -> Call[list[RolloutEvent]]:
    """Return what happened to a rollout after the event with this number."""
    params = {"follow": "false", "after": str(after)}
    return Call("GET", f"/deployments/{_id(rollout_id)}/events", happened, params=params)


def canary_of(name: str, found: Sequence[Rollout]) -> Rollout:
    """Return the canary of a model that is not over, otherwise its last one. found: its rollouts, the newest first.

    Raises NotFoundError if it never had one.
    """
    canaries = [each for each in found if each.kind == "canary"]
    if not canaries:
        raise NotFoundError(
            f"`{name}` has no canary.",
            hint=f"`prism canary start {name} --candidate VERSION` begins one; `prism versions {name}` lists the versions.",
            status=404,
            code="not_found",
        )
    return next((each for each in canaries if not each.is_over), canaries[0])


def rollout(answer: Answer) -> Rollout:
    return record(Rollout, decode(answer))


def rollouts(answer: Answer) -> list[Rollout]:
    return [record(Rollout, document) for document in items(answer, "deployments")]


def happened(answer: Answer) -> list[RolloutEvent]:
    return [record(RolloutEvent, document) for document in items(answer, "events")]


def _id(rollout_id: str) -> str:
    if not rollout_id.strip("./ "):
        raise InvalidRequest(f"{rollout_id!r} is not the id of a rollout.", hint="`prism canary status` shows them.")
    return quote(rollout_id, safe="")
