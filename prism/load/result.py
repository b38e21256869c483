"""What a run of load measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prism.load.latencies import Latencies

CLIENT_BOUND_SHARE = 0.9


@dataclass
class Answers:
    """All answers of one status.

    in_time: those that came before the run's end; the others were under way then, and were waited for.
    latency: from when a request was due (closed loop: sent) to its whole answer. response: from when it was sent;
    in a closed loop the same object.
    """

    latency: Latencies
    response: Latencies
    in_time: int = 0

    @property
    def count(self) -> int:
        return self.latency.count


@dataclass(frozen=True)
class Result:
    """seconds: what the rates are counted over, first request to the run's end. rate: requests a second, or None.

    answers: by status. failures: what went wrong on connections, and how often. unanswered: requests without an
    answer when the waiting ended. unsent: requests that were due and found no free connection before the end.
    lag: of an open loop, how late requests left that had a free connection: the generator's own imprecision.
    client_cpu_share: of one core, what this process used; a client near 1 measures itself.
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
    def requests_per_second(self) -> float:
        """Answers of any status, in time."""
        return self._per_second(0, 1000)

    @property
    def successes_per_second(self) -> float:
        """Answers with a status of 2xx, in time."""
        return self._per_second(200, 300)

    @property
    def answered(self) -> int:
        """Answers of any status, those that were waited for included."""
        return sum(answers.count for answers in self.answers.values())

    @property
    def successes(self) -> int:
        return sum(answers.count for status, answers in self.answers.items() if 200 <= status < 300)

    @property
    def failed(self) -> int:
        """Requests that have another outcome than an answer of 2xx."""
        return self.answered - self.successes + self.unanswered + sum(self.failures.values())

    @property
    def latency(self) -> Latencies:
        """Of the answers with a status of 2xx; of all, if there are none of these."""
        good = [answers.latency for status, answers in self.answers.items() if 200 <= status < 300]
        return Latencies.merged(good or [answers.latency for answers in self.answers.values()])

    @property
    def client_bound(self) -> bool:
        """Whether the generator, rather than the server, may have been the limit."""
        return self.client_cpu_share >= CLIENT_BOUND_SHARE

    def _per_second(self, least: int, below: int) -> float:
        in_time = sum(answers.in_time for status, answers in self.answers.items() if least <= status < below)
        return in_time / self.seconds if self.seconds else 0.0
