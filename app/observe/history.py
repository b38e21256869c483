"""History of each model's traffic over the last 15 minutes, in steps of 5 seconds, for the charts on the pages.

The request path only increments counters (tally.py). History reads these counters every few seconds and keeps what
was added since the last reading. A request costs nothing more, and a model without traffic costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

import structlog
from msgspec import Struct

from app.observe.tally import LATENCY_BOUNDS_SECONDS, ModelCounters

log = structlog.get_logger(__name__)

STEP_SECONDS = 5.0
KEPT_SECONDS = 900.0


class Step(Struct, frozen=True):
    """Traffic of one model within `seconds`. refused: answers with a 4xx status. failed: answers with a 5xx status.

    latencies: number of observations in each bucket of LATENCY_BOUNDS_SECONDS, plus one bucket above all bounds; empty
    if there were no requests.
    """

    seconds: float = STEP_SECONDS
    requests: int = 0
    refused: int = 0
    failed: int = 0
    latencies: tuple[int, ...] = ()

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def error_rate(self) -> float:
        """Return the share of requests that were refused or failed, from 0 to 1."""
        return (self.refused + self.failed) / self.requests if self.requests else 0.0

    def latency_ms(self, quantile: float) -> float | None:
        """Estimate a latency quantile from the buckets, in milliseconds; None without requests."""
        estimate = estimated_quantile(self.latencies, quantile)
        return None if estimate is None else estimate * 1000


class Moment(Struct, frozen=True):
    """Step together with how many seconds ago it ended."""

    ago_seconds: float
    step: Step


class _Counts(Struct, frozen=True):
    """Copy of a model's counters at one reading."""

    requests: int = 0
    refused: int = 0
    failed: int = 0
    latencies: tuple[int, ...] = ()


class History:
    """Recorder of each model's recent traffic.

    tallies: the counters of the request path, by model_id; they are read and never changed. clock must be monotonic.
    """

    def __init__(
        self,
        tallies: Mapping[str, ModelCounters],
        clock: Callable[[], float] = monotonic,
        step_seconds: float = STEP_SECONDS,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self.step_seconds = step_seconds
        self.kept_seconds = kept_seconds
        self._tallies = tallies
        self._clock = clock
        self._kept_steps = round(kept_seconds / step_seconds)
        self._ends: deque[tuple[float, float]] = deque(maxlen=self._kept_steps)  # when each step ended, and its length
        self._number = 0  # number of steps since the start
        self._looked = clock()
        self._counts: dict[str, _Counts] = {}
        self._steps: dict[str, deque[tuple[int, Step]]] = {}  # step number and step; only steps with requests
        self._loop: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._loop = asyncio.create_task(self._run())

    async def end(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.step_seconds)
            try:
                self.look()
            except Exception:  # charts may miss a step; they must not end for good
                log.exception("the history could not be written")

    def look(self) -> None:
        """Record a step: what was added to each model's counters since the last reading."""
        now = self._clock()
        seconds, self._looked = now - self._looked, now
        self._number += 1
        self._ends.append((now, seconds))
        for model_id, tally in self._tallies.items():
            requests = sum(tally.statuses.values())
            before = self._counts.get(model_id, _Counts())
            if requests != before.requests:
                self._counts[model_id] = after = _counts_of(tally, requests)
                self._steps.setdefault(model_id, deque()).append((self._number, _difference(before, after, seconds)))
        self._forget()

    def _forget(self) -> None:
        """Drop steps older than the kept time, and all steps of models that are no longer registered."""
        for model_id in self._counts.keys() - self._tallies.keys():
            del self._counts[model_id], self._steps[model_id]
        for steps in self._steps.values():
            while steps and steps[0][0] <= self._number - self._kept_steps:
                steps.popleft()

    def moments(self, model_id: str) -> list[Moment]:
        """Return every step of the kept time, oldest first, including steps without traffic.

        Empty until the first reading.
        """
        now = self._clock()
        busy = dict(self._steps.get(model_id, ()))
        first = self._number - len(self._ends) + 1
        return [
            Moment(now - end, busy.get(number) or Step(seconds))
            for number, (end, seconds) in enumerate(self._ends, start=first)
        ]

    def recent(self, model_id: str, seconds: float = 60.0) -> Step:
        """Return the last `seconds` merged into one step."""
        return merged([moment.step for moment in self.moments(model_id)[-round(seconds / self.step_seconds) :]])


def merged(steps: Sequence[Step]) -> Step:
    """Merge adjacent steps into one."""
    return Step(
        sum(step.seconds for step in steps),
        sum(step.requests for step in steps),
        sum(step.refused for step in steps),
        sum(step.failed for step in steps),
        tuple(map(sum, zip(*(step.latencies for step in steps if step.latencies), strict=True))),
    )


def estimated_quantile(counts: Sequence[int], quantile: float) -> float | None:
    """Estimate a quantile in seconds, assuming that observations are spread evenly within each bucket.

    Observations above all bounds count as the last bound. The error is at most the bucket's width. The method is that
    of Prometheus' histogram_quantile().
    """
    total = sum(counts)
    if not total:
        return None
    rank, seen, lower = quantile * total, 0, 0.0
    for upper, count in zip(LATENCY_BOUNDS_SECONDS, counts, strict=False):
        if count and seen + count >= rank:
            return lower + (upper - lower) * (rank - seen) / count
        seen, lower = seen + count, upper
    return LATENCY_BOUNDS_SECONDS[-1]


def _counts_of(tally: ModelCounters, requests: int) -> _Counts:
    statuses = tally.statuses.items()
    return _Counts(
        requests,
        sum(count for status, count in statuses if 400 <= status < 500),
        sum(count for status, count in statuses if status >= 500),
        tuple(tally.latency.counts),
    )


def _difference(before: _Counts, after: _Counts, seconds: float) -> Step:
    return Step(
        seconds,
        after.requests - before.requests,
        after.refused - before.refused,
        after.failed - before.failed,
        tuple(_minus(after.latencies, before.latencies)),
    )


def _minus(after: Sequence[int], before: Sequence[int]) -> Iterable[int]:
    return (count - (before[index] if before else 0) for index, count in enumerate(after))
