"""Counters of the request path: plain numbers, so that counting costs next to nothing.

observe/metrics.py and observe/history.py read these counters; nothing here depends on an output format.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

LATENCY_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Histogram with fixed bucket bounds.

    counts[i]: observations above bounds[i-1] and up to bounds[i]; the last entry counts those above all bounds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, values: Iterable[float]) -> None:
        bounds, counts, total = self.bounds, self.counts, self.total
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            total += value
        self.total = total


class ModelCounters:
    """Counters of one model for as long as it is registered, across all its replicas.

    statuses: number of responses by HTTP status. latency: seconds from arrival to response. model_seconds: time inside
    the model. codec_seconds: time the runtime spent decoding and encoding. away_seconds: time from when a batch was
    sent until it came back, summed over all requests. last_at: monotonic time at which a batch last came back; 0 if
    none did.
    """

    __slots__ = ("away_seconds", "batch_size", "codec_seconds", "last_at", "latency", "model_seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.latency = Histogram(LATENCY_BOUNDS_SECONDS)
        self.batch_size = Histogram(BATCH_SIZE_BOUNDS)
        self.model_seconds = 0.0
        self.codec_seconds = 0.0
        self.away_seconds = 0.0
        self.last_at = 0.0

    def count(self, statuses: Iterable[int]) -> None:
        counts = self.statuses
        for status in statuses:
            counts[status] = counts.get(status, 0) + 1
