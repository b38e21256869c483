"""The bound above which an answer of a candidate is late, from the latencies of the stable version."""

from __future__ import annotations

from collections.abc import Sequence

ANSWERS_MIN = 200
"""A 99th percentile of fewer answers is decided by one or two of them."""

SHARE = 0.99
MARGIN = 1.5


def latency_bound(bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """Return the first bound of a histogram that is at least 1.5 times its 99th percentile, in the bounds' unit.

    The percentile is taken for the upper bound of its bucket. Returns None below ANSWERS_MIN observations, or if no
    bound is that high.

    bounds, counts: as in observe/tally.py; counts has one entry more, for observations above all bounds.
    """
    total = sum(counts)
    if total < ANSWERS_MIN:
        return None
    below = 0
    for bound, count in zip(bounds, counts, strict=False):
        below += count
        if below >= SHARE * total:
            return next((higher for higher in bounds if higher >= MARGIN * bound), None)
    return None
