"""What /metrics says, read back by Prometheus' own parser."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from app.core.rollout.records import Evidence
from app.observe.metrics import ModelFigures, RequestCollector, exposition
from app.observe.tally import ModelCounters

DOCUMENTED = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()


def busy_tally() -> ModelCounters:
    tally = ModelCounters()
    tally.count([200, 200, 422])
    tally.latency.observe([0.0004, 0.003, 20.0])
    tally.batch_size.observe([3])
    tally.model_seconds = 0.25
    return tally


def samples() -> dict[str, float]:
    """Return the samples by name and distinguishing labels."""
    model = ModelFigures(
        'na"me',
        "1.0.0",
        "m1",
        busy_tally(),
        queued=2,
        live=True,
        circuit="open",
        circuits={1: "closed", 2: "half-open"},
        replicas_wanted=3,
        evidence=Evidence(answers=7, bad=6, both_failed=5, slow=4, mirrored=3, rescued=2, dropped=1),
    )
    text = exposition(RequestCollector([model], {"unauthorized": 4})).decode()
    return {
        "|".join(
            (one.name, *(one.labels[key] for key in ("status", "le", "code", "replica") if key in one.labels))
        ): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_the_counters_of_the_pipeline_are_exposed_as_metrics() -> None:
    found = samples()
    assert found["prism_requests_total|200"] == 2
    assert found["prism_requests_total|422"] == 1
    assert found["prism_request_duration_seconds_bucket|0.001"] == 1
    assert found["prism_request_duration_seconds_bucket|0.005"] == 2
    assert found["prism_request_duration_seconds_bucket|10.0"] == 2
    assert found["prism_request_duration_seconds_bucket|+Inf"] == 3
    assert found["prism_batch_size_sum"] == 3
    assert found["prism_model_seconds_total"] == 0.25
    assert found["prism_queue_length"] == 2
    assert found["prism_model_live"] == 1
    assert found["prism_circuit_state"] == 2
    assert found["prism_replica_circuit_state|1"] == 0
    assert found["prism_replica_circuit_state|2"] == 1
    assert found["prism_replicas_wanted"] == 3
    assert found["prism_refusals_total|unauthorized"] == 4
    assert found["prism_rollout_answers_total"] == 7
    assert found["prism_rollout_bad_answers_total"] == 6
    assert found["prism_rollout_both_failed_total"] == 5
    assert found["prism_rollout_slow_answers_total"] == 4
    assert found["prism_rollout_mirrored_requests_total"] == 3
    assert found["prism_rollout_rescued_requests_total"] == 2
    assert found["prism_rollout_dropped_copies_total"] == 1


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    names = {re.sub(r"_(bucket|sum|count|created)$", "", name.split("|")[0]) for name in samples()}
    documented = set(re.findall(r"^\| `(prism_\w+)`", DOCUMENTED, re.MULTILINE))
    assert documented == {name for name in names if name.startswith("prism_")}
    assert "process_" in DOCUMENTED
