"""Histogram of durations: constant memory for any number of them, percentiles accurate to 0.2%."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, frexp, ldexp

STEPS = 256
"""Buckets per doubling, so that a bucket's width is at most 1/256 of its value."""
LEAST_SECONDS = 1e-9


class Latencies:
    """Histogram like HdrHistogram: a bucket is the exponent and the first bits of the mantissa.

    All times are in seconds.
    """

    __slots__ = ("_buckets", "count", "max", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.max = 0.0

    def record(self, seconds: float) -> None:
        if seconds < LEAST_SECONDS:
            seconds = LEAST_SECONDS
        mantissa, exponent = frexp(seconds)
        bucket = exponent * STEPS + int(mantissa * 2 * STEPS)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.total += seconds
        if seconds > self.max:
            self.max = seconds

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return the duration that this percentage of all durations does not exceed (nearest rank); 0 if there are
        none.
        """
        rank = max(1, ceil(self.count * percent / 100))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(_middle(bucket), self.max)
        return 0.0

    @classmethod
    def merged(cls, parts: Iterable[Latencies]) -> Latencies:
        whole = cls()
        for part in parts:
            for bucket, count in part._buckets.items():
                whole._buckets[bucket] = whole._buckets.get(bucket, 0) + count
            whole.count += part.count
            whole.total += part.total
            whole.max = max(whole.max, part.max)
        return whole


def _middle(bucket: int) -> float:
    exponent = bucket // STEPS - 1
    return ldexp((bucket - exponent * STEPS + 0.5) / (2 * STEPS), exponent)
