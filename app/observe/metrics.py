"""Metrics of the request path in Prometheus' text format; docs/metrics.md explains each metric.

The request path only increments plain numbers (tally.py). They are turned into metrics here, on each scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from app.core.rollout.records import Evidence
from app.observe.tally import Histogram, ModelCounters

__all__ = ["CONTENT_TYPE_LATEST", "ModelFigures", "RequestCollector", "exposition"]

LABELS = ("model", "version", "model_id")
ROLLOUT_COUNTERS = {
    "answers": ("answers", "Answers of a candidate that tell something of it, bad ones included."),
    "bad": ("bad_answers", "Answers of a candidate that the stable version could give, and it could not."),
    "slow": ("slow_answers", "Answers of a candidate that took longer than the bound."),
    "both_failed": ("both_failed", "Requests that neither the candidate nor the stable version could answer."),
    "rescued": ("rescued_requests", "Requests that the stable version answered in the candidate's place."),
    "mirrored": ("mirrored_requests", "Copies of requests that the version answered, or could not answer."),
    "dropped": ("dropped_copies", "Requests that were not copied to a shadow, as a bound on copies was reached."),
}
"""The counters of a rollout, by their attribute of `Evidence`."""

CIRCUITS = ("closed", "half-open", "open")


class ModelFigures(Struct, frozen=True):
    """Current numbers of one registered model.

    queued: requests that wait now. live: whether the model takes traffic. circuit: the breaker's state for the model.
    circuits: the breaker's state of each replica that takes traffic, by the replica's number. replicas_wanted: how many
    replicas should take traffic. streams: streams that are open now. evidence: what its rollout found so far, if it is
    the candidate or the shadow of one.
    """

    name: str
    version: str
    model_id: str
    tally: ModelCounters
    queued: int
    live: bool
    circuit: str
    circuits: Mapping[int, str]
    replicas_wanted: int
    streams: int = 0
    evidence: Evidence | None = None


class RequestCollector(Collector):
    """Prometheus collector of the request path's metrics.

    models: the numbers of every registered model. refusals: requests that reached no model, counted by error code.
    """

    def __init__(self, models: Iterable[ModelFigures], refusals: Mapping[str, int]) -> None:
        self._models = tuple(models)
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "prism_requests", "Prediction requests that reached a model.", labels=(*LABELS, "status")
        )
        seconds = CounterMetricFamily("prism_model_seconds", "Time spent inside the model.", labels=LABELS)
        latency = HistogramMetricFamily(
            "prism_request_duration_seconds", "From a request's arrival to its answer.", labels=LABELS
        )
        batches = HistogramMetricFamily("prism_batch_size", "Requests that shared one call of a model.", labels=LABELS)
        queued = GaugeMetricFamily("prism_queue_length", "Requests that wait for a model now.", labels=LABELS)
        circuit = GaugeMetricFamily(
            "prism_circuit_state", "0 while requests pass, 1 for a trial, 2 while none does.", labels=LABELS
        )
        replicas = GaugeMetricFamily(
            "prism_replica_circuit_state",
            "The same of one replica, for each that takes traffic.",
            labels=(*LABELS, "replica"),
        )
        wanted = GaugeMetricFamily("prism_replicas_wanted", "Replicas that should take traffic.", labels=LABELS)
        live = GaugeMetricFamily("prism_model_live", "1 while the model takes traffic.", labels=LABELS)
        streams = GaugeMetricFamily("prism_open_streams", "Streams of a model that are open now.", labels=LABELS)
        refused = CounterMetricFamily("prism_refusals", "Requests that were let through to no model.", labels=("code",))
        for model in self._models:
            labels = (model.name, model.version, model.model_id)
            for status, number in sorted(model.tally.statuses.items()):
                requests.add_metric((*labels, str(status)), number)
            seconds.add_metric(labels, model.tally.model_seconds)
            latency.add_metric(labels, buckets(model.tally.latency), model.tally.latency.total)
            batches.add_metric(labels, buckets(model.tally.batch_size), model.tally.batch_size.total)
            queued.add_metric(labels, model.queued)
            live.add_metric(labels, int(model.live))
            streams.add_metric(labels, model.streams)
            circuit.add_metric(labels, CIRCUITS.index(model.circuit))
            wanted.add_metric(labels, model.replicas_wanted)
            for number, state in model.circuits.items():
                replicas.add_metric((*labels, str(number)), CIRCUITS.index(state))
        for code, number in sorted(self._refusals.items()):
            refused.add_metric((code,), number)
        yield from rollout_metrics(self._models)
        yield from (requests, seconds, latency, batches, queued, live, circuit, replicas, wanted, streams, refused)


def rollout_metrics(models: Iterable[ModelFigures]) -> list[Metric]:
    """Return the evidence on the versions under a rollout, a counter for each of its numbers."""
    families = {
        number: CounterMetricFamily(f"prism_rollout_{name}", text, labels=LABELS)
        for number, (name, text) in ROLLOUT_COUNTERS.items()
    }
    for model in models:
        if model.evidence is not None:
            for number, family in families.items():
                family.add_metric((model.name, model.version, model.model_id), getattr(model.evidence, number))
    return list(families.values())


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return (upper bound, cumulative count) pairs, as Prometheus expects them."""
    total, pairs = 0, []
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        total += count
        pairs.append((str(bound), float(total)))
    return pairs


def exposition(requests: RequestCollector) -> bytes:
    """Render all metrics as Prometheus text, including this process's memory and CPU time."""
    registry = CollectorRegistry()
    registry.register(requests)
    ProcessCollector(registry=registry)
    return generate_latest(registry)
