"""Results of a load test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prism.load.latencies import Latencies

CLIENT_BOUND_SHARE = 0.9


@dataclass
class Answers:
    """Answers with one status.

    in_time: those that came before the run's end; the others were under way then and were waited for. latency: from
    when a request was due (closed loop: sent) to its complete answer. response: from when it was sent; in a closed loop
    the same object.
    """

    latency: Latencies
    response: Latencies
    in_time: int = 0

    @property
    def count(self) -> int:
        return self.latency.count


@dataclass(frozen=True)
class Result:
    """Result of a run. seconds: from the first request to the run's end; rates refer to it.

    rate: requests per second, or None. answers: by status. failures: what went wrong on connections, and how often.
    unanswered: requests without an answer when the waiting ended. unsent: requests that were due and found no free
    connection before the end. lag: in an open loop, how late requests with a free connection left, which is the
    generator's own imprecision. client_cpu_share: share of one core that this process used; a client near 1 measures
    itself.
    """

    seconds: float
    connections: int
    rate: float | None
    answers: Mapping[int, Answers]
    failures: Mapping[str, int] = field(default_factory=dict)
    unanswered: int = 0
    unsent: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    lag: Latencies = field(default_factory=Latencies)
    client_cpu_share: float = 0.0
    interrupted: bool = False

    @property
    def answers_per_second(self) -> float:
        """Return the rate of answers of any status, refusals included, that came in time."""
        return self._per_second(0, 1000)

    @property
    def successes_per_second(self) -> float:
        """Return the rate of answers with a 2xx status that came in time."""
        return self._per_second(200, 300)

    @property
    def answered(self) -> int:
        """Return the number of answers of any status, including those that were waited for."""
        return sum(answers.count for answers in self.answers.values())

    @property
    def successes(self) -> int:
        return sum(answers.count for status, answers in self.answers.items() if 200 <= status < 300)

    @property
    def failed(self) -> int:
        """Return the number of requests with any outcome other than a 2xx answer."""
        return self.answered - self.successes + self.unanswered + sum(self.failures.values())

    @property
    def latency(self) -> Latencies:
        """Return the latency of answers with a 2xx status; of all answers if there are none with 2xx."""
        good = [answers.latency for status, answers in self.answers.items() if 200 <= status < 300]
        return Latencies.merged(good or [answers.latency for answers in self.answers.values()])

    @property
    def client_bound(self) -> bool:
        """Return whether the generator, rather than the server, may have been the limit."""
        return self.client_cpu_share >= CLIENT_BOUND_SHARE

    def _per_second(self, least: int, below: int) -> float:
        in_time = sum(answers.in_time for status, answers in self.answers.items() if least <= status < below)
        return in_time / self.seconds if self.seconds else 0.0
