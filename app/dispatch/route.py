"""Picks the version of a model first, so that no later step can mix two versions."""

from __future__ import annotations

import difflib
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

from app.access.rate_limit import Allowance
from app.core.model import Status
from app.core.rollout.keys import NOBODY, Identity
from app.core.route_table import NotServing, RouteTable
from app.dispatch.batch import Lane
from app.dispatch.request import PendingRequest
from app.dispatch.stream import Stream
from app.errors import Conflict, NotFound, PrismError, ReplicaUnavailable
from model_container.contract import frames

GOLDEN_RATIO = 0.6180339887498949


class Split:
    """The lanes among which the requests for one name are split.

    Multiples of the golden ratio modulo 1 fill [0, 1) evenly, and each lane has a part of it as wide as its weight. So
    a lane's requests are always within a few of its exact share, and no regular pattern of callers meets one lane only.

    place: where in [0, 1) the last request fell. A split that takes over from another one goes on there, so that a lane
    with a small weight is not missed again and again.
    """

    __slots__ = ("_ends", "_lanes", "place")

    def __init__(self, arms: Sequence[tuple[Lane, float]], place: float) -> None:
        self.place = place
        self._lanes = [lane for lane, _ in arms]
        self._ends = list(accumulate(weight for _, weight in arms))[:-1]

    def submit(self, request: PendingRequest, now: float) -> None:
        """Queue a request at the lane whose turn it is. Raises what `Lane.submit` raises."""
        lane = request.lane = self.next()
        lane.submit(request, now)

    def stream(
        self, request: frames.Request, allowance: Allowance | None, request_id: str, identity: Identity = NOBODY
    ) -> Stream:
        """Return a stream in the lane whose turn it is. Raises what `Stream` raises."""
        return Stream(self.next(), request, allowance)

    def next(self) -> Lane:
        """Return the lane of the next request."""
        place = self.place = (self.place + GOLDEN_RATIO) % 1.0
        return self._lanes[bisect(self._ends, place)]


def refusal(table: RouteTable, ref: str) -> PrismError:
    """Return the error that says why nothing can answer a request for `ref`.

    It is NotFound, Conflict (not running, on purpose or for good) or ReplicaUnavailable (coming back).
    """
    absence = table.absent.get(ref)
    return _absent(absence) if absence is not None else not_found(ref, (*table.live, *table.absent))


def _absent(absence: NotServing) -> PrismError:
    if absence.status is Status.UNHEALTHY and absence.reason:
        return ReplicaUnavailable(
            f"`{absence.ref}` has no replica: {absence.reason.lower()}. Starting it is retried, with increasing delays.",
            hint=f"`prism models show {absence.ref}` says why.",
        )
    if absence.returning:
        return ReplicaUnavailable(f"`{absence.ref}` is {absence.status.value}; it takes traffic as soon as it is live.")
    if absence.beside:
        ref = f"{absence.ref}@{absence.beside}"
        return Conflict(
            f"No version of `{absence.ref}` takes its requests; {absence.beside} runs without them.",
            hint=f"`prism models start {ref}` gives them to it; until then, call it as `{ref}`.",
            model=absence.ref,
        )
    return Conflict(
        f"`{absence.ref}` is {absence.status.value} and takes no traffic.",
        hint=f"`prism models start {absence.ref}` starts it; `prism models show {absence.ref}` says why it does not run.",
        model=absence.ref,
    )


def not_found(ref: str, known: tuple[str, ...]) -> NotFound:
    """Return an error that names the reference sought and the nearest one that exists."""
    near = difflib.get_close_matches(ref, known, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else "`prism ls` lists all models."
    return NotFound(f"There is no model `{ref[:200]}`.", hint=hint, ref=ref[:200])
