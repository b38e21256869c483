"""Checks what is asked of a canary before anything changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

from app.core.rollout.records import CanaryPolicy
from app.errors import BadInput

WHOLE = 100.0
BAKE_SECONDS_MAX = 28_800.0


def canary_policy(
    initial_percentage: float,
    threshold: float,
    bake_seconds: float,
    steps: Sequence[float] | None = None,
    *,
    rescue: bool = True,
    overdue_ms: float | None = None,
    warm_seconds: float = CanaryPolicy().warm_seconds,
) -> CanaryPolicy:
    """Return the policy. Without steps, the candidate keeps its initial share until it is promoted.

    Raises BadInput that names the value: a share outside 0 to 100 %, steps that do not rise or do not begin at or above
    the initial share, a threshold outside 0 to 1, a time below 0.
    """
    shares = tuple(float(share) for share in (initial_percentage, *(steps or ())))
    for share in shares:
        if not (isfinite(share) and 0.0 < share <= WHOLE):
            raise BadInput(
                f"A canary's share must be above 0 and at most 100 percent; it was {share:g}.",
                hint="5 sends it every twentieth request.",
            )
    if len(shares) > 1 and shares[0] == shares[1]:
        shares = shares[1:]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise BadInput(
            f"The steps of a canary must rise; they were {', '.join(f'{share:g}' for share in shares)} percent.",
            hint="For example: 5, 25, 50, 100.",
        )
    if not (isfinite(threshold) and 0.0 <= threshold <= 1.0):
        raise BadInput(
            f"The share of bad answers at which a canary is rolled back must be from 0 to 1; it was {threshold:g}.",
            hint="0.02 means two of a hundred.",
        )
    if not (isfinite(bake_seconds) and 0.0 <= bake_seconds <= BAKE_SECONDS_MAX):
        raise BadInput(
            f"A step of a canary lasts 0 to {BAKE_SECONDS_MAX:,.0f} seconds; {bake_seconds:g} was asked for."
        )
    if not (isfinite(warm_seconds) and warm_seconds >= 0.0):
        raise BadInput(f"The stable version stays warm for 0 seconds or more; {warm_seconds:g} was asked for.")
    if overdue_ms is not None and not (isfinite(overdue_ms) and overdue_ms > 0.0):
        raise BadInput(f"An answer is overdue after more than 0 ms; {overdue_ms:g} was given.")
    return CanaryPolicy(shares, threshold, bake_seconds, overdue_ms, rescue, warm_seconds)
