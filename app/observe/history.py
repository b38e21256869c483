"""The last minutes of each model's traffic, in short steps: what the charts of the pages show.

The road only counts (tally.py). Here its counts are read every few seconds and what was added since is kept, so
nothing is added to a request, and a model without traffic costs nothing.
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
    """What one model answered within `seconds`. refused: with a 4xx. failed: with a 5xx.

    latencies: observations in each bucket of LATENCY_BOUNDS_SECONDS and one above; empty where there were none.
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
        """Of 0 to 1; both kinds of errors."""
        return (self.refused + self.failed) / self.requests if self.requests else 0.0

    def latency_ms(self, quantile: float) -> float | None:
        """Estimated from the buckets; None without requests."""
        found = estimated_quantile(self.latencies, quantile)
        return None if found is None else found * 1000


class Moment(Struct, frozen=True):
    """A step, and how many seconds ago it ended."""

    ago_seconds: float
    step: Step


class _Counts(Struct, frozen=True):
    """A tally as it stood at one look."""

    requests: int = 0
    refused: int = 0
    failed: int = 0
    latencies: tuple[int, ...] = ()


class History:
    """tallies: of the request road, by model_id; read, never changed. Times are the clock's, which must not go back."""

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
        self._ends: deque[tuple[float, float]] = deque(maxlen=self._kept_steps)  # when a step ended, how long it was
        self._number = 0  # of steps since the start
        self._looked = clock()
        self._counts: dict[str, _Counts] = {}
        self._steps: dict[str, deque[tuple[int, Step]]] = {}  # those with requests, by their number
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
        """Keep what was added to each tally since the last look."""
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
        """What is too old, and what belongs to models that are gone."""
        for model_id in self._counts.keys() - self._tallies.keys():
            del self._counts[model_id], self._steps[model_id]
        for steps in self._steps.values():
            while steps and steps[0][0] <= self._number - self._kept_steps:
                steps.popleft()

    def moments(self, model_id: str) -> list[Moment]:
        """Of the kept time, oldest first; quiet steps too. Empty until the first look."""
        now = self._clock()
        busy = dict(self._steps.get(model_id, ()))
        first = self._number - len(self._ends) + 1
        return [
            Moment(now - end, busy.get(number) or Step(seconds))
            for number, (end, seconds) in enumerate(self._ends, start=first)
        ]

    def recent(self, model_id: str, seconds: float = 60.0) -> Step:
        """The last `seconds` as one step."""
        return merged([moment.step for moment in self.moments(model_id)[-round(seconds / self.step_seconds) :]])


def merged(steps: Sequence[Step]) -> Step:
    """Neighbouring steps as one."""
    return Step(
        sum(step.seconds for step in steps),
        sum(step.requests for step in steps),
        sum(step.refused for step in steps),
        sum(step.failed for step in steps),
        tuple(map(sum, zip(*(step.latencies for step in steps if step.latencies), strict=True))),
    )


def estimated_quantile(counts: Sequence[int], quantile: float) -> float | None:
    """Seconds, as if the observations of a bucket were spread evenly over it; what is above all bounds counts as the last.

    The error is at most the bucket's width. The same as Prometheus' histogram_quantile().
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
