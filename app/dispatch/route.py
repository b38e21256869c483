"""Picks the version of a model first, so that no later step can mix two versions."""

from __future__ import annotations

import difflib

from app.core.model import Status
from app.core.route_table import Endpoint, NotServing, RouteTable
from app.errors import Conflict, NotFound, PrismError, ReplicaUnavailable


def pick(table: RouteTable, ref: str) -> Endpoint:
    """Return the endpoint that serves `ref`.

    Raises NotFound, Conflict (not running, on purpose or for good) or ReplicaUnavailable (coming back).
    """
    endpoint = table.endpoint(ref)
    if endpoint is not None:
        return endpoint
    raise refusal(table, ref)


def refusal(table: RouteTable, ref: str) -> PrismError:
    """Return the error that says why nothing can answer a request for `ref`."""
    absence = table.absent.get(ref)
    return _absent(absence) if absence is not None else not_found(ref, (*table.live, *table.absent))


def _absent(absence: NotServing) -> PrismError:
    if absence.status is Status.UNHEALTHY and absence.reason:
        return ReplicaUnavailable(
            f"`{absence.ref}` has no replica: {absence.reason.lower()}. It is tried again, with growing pauses.",
            hint=f"See why in GET /models/{absence.ref}.",
        )
    if absence.returning:
        return ReplicaUnavailable(f"`{absence.ref}` is {absence.status.value}; it takes traffic as soon as it is live.")
    return Conflict(
        f"`{absence.ref}` is {absence.status.value} and takes no traffic.",
        hint=f"Start it with POST /models/{absence.ref}/start, or see why in GET /models/{absence.ref}.",
        model=absence.ref,
    )


def not_found(ref: str, known: tuple[str, ...]) -> NotFound:
    """Return an error that names the reference sought and the nearest one that exists."""
    near = difflib.get_close_matches(ref, known, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else "GET /models lists what there is."
    return NotFound(f"There is no model `{ref[:200]}`.", hint=hint, ref=ref[:200])
