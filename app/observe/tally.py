"""Counts of what happened on the request road: plain numbers, so that counting costs next to nothing.

Whoever shows them (observe/metrics.py) reads them when asked; nothing here knows of any format.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

LATENCY_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """counts[i]: observations up to bounds[i] and over the one before; the last one counts all above the bounds."""

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
    """Of one model, for as long as it is registered, whichever replicas served it.

    statuses: answers by HTTP status. latency: seconds from arrival to answer. model_seconds: inside the model.
    codec_seconds: decoding and encoding in the runtime. away_seconds: of all requests together, from when their batch
    was sent to when it came back. last_at: when one came back last, on the monotonic clock; 0 if none did.
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
