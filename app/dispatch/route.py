"""Picks the version first, so that nothing later on the road can mix two of them."""

from __future__ import annotations

import difflib

from app.core.route_table import Absence, Endpoint, RouteTable
from app.errors import Conflict, NotFound, PrismError, ReplicaUnavailable


def pick(table: RouteTable, ref: str) -> Endpoint:
    """Raises NotFound, Conflict (not running, on purpose or for good) or ReplicaUnavailable (coming back)."""
    endpoint = table.live.get(ref)
    if endpoint is not None:
        return endpoint
    absence = table.absent.get(ref)
    raise _absent(absence) if absence is not None else not_found(ref, (*table.live, *table.absent))


def _absent(absence: Absence) -> PrismError:
    if absence.returning:
        return ReplicaUnavailable(f"`{absence.ref}` is {absence.status.value}; it takes traffic as soon as it is live.")
    return Conflict(
        f"`{absence.ref}` is {absence.status.value} and takes no traffic.",
        hint=f"Start it with POST /models/{absence.ref}/start, or see why in GET /models/{absence.ref}.",
        model=absence.ref,
    )


def not_found(ref: str, known: tuple[str, ...]) -> NotFound:
    """Names what was sought and the nearest thing that exists."""
    near = difflib.get_close_matches(ref, known, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else "GET /models lists what there is."
    return NotFound(f"There is no model `{ref[:200]}`.", hint=hint, ref=ref[:200])
