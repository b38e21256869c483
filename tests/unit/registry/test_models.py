"""Records of models on disk: those that an earlier version wrote, and those that a disk damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.core.acceleration import Acceleration, AccelerationStatus, Report
from app.core.environment import Lock
from app.core.execution import Execution
from app.core.foreign_json import MAX_DEPTH, read_json
from app.core.inspection import Format, Inspection, Pin
from app.core.model import (
    Artifact,
    Findings,
    Identity,
    ModelVersion,
    PredictContract,
    QueueLimits,
    Spec,
)
from app.core.signature import Signature, Tensor
from app.registry.models import ModelStore
from tests.records import with_facts

PIN = Pin("scikit-learn", "==1.6.1", "the pickle says so")
MODEL = ModelVersion(
    Identity("1f0c5a9be3d4", "iris", "1.1.0", "2026-11-28T09:30:00.123456Z", models_folder="iris"),
    Spec(
        artifact=Artifact("iris.pkl", "9f" * 32, 1290, rest_sha256="7c" * 32),
        description="Sorts irises.",
        target="process",
        requirements="pandas<3",
        python_version="3.11",
        expected_input={"petal_length": 1.4},
        code_files=("features.py",),
        allow_unsafe=True,
        unsafe_consent="2026-11-28T09:30:00.123456Z",
        allow_packages=("irislib",),
        packages_consent="2026-11-28T09:30:00.123456Z",
        accelerate="auto",
        bounds=QueueLimits(max_batch_size=8, batch_window_ms=0.5, predict_timeout_seconds=2.0),
        calling=PredictContract("predict_proba", batchable=True),
        execution=Execution(providers=("CPUExecutionProvider",), threads=3),
        replicas=3,
    ),
    Findings(
        inspection=Inspection(Format.PICKLE, pins=(PIN,)),
        target="process",
        lock=Lock("3.11", "scikit-learn==1.6.1\n", (PIN,), "the file says so"),
        signature=Signature("table", (Tensor("petal_length", "FP64", (-1, 1)),)),
        sample={"petal_length": 1.4},
        runtime={"rss_bytes": 1000},
        acceleration=Acceleration(AccelerationStatus.KEPT, "not faster", Report("not faster", {"1": 0.9})),
    ),
)
FLAT = r"""
{
  "model_id": "1f0c5a9be3d4",
  "name": "iris",
  "version": "1.1.0",
  "artifact": {
    "filename": "iris.pkl",
    "sha256": "9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f",
    "size_bytes": 1290,
    "main": "",
    "rest_sha256": "7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c"
  },
  "created_at": "2026-11-28T09:30:00.123456Z",
  "description": "Sorts irises.",
  "target": "process",
  "requirements": "pandas<3",
  "python_version": "3.11",
  "expected_input": {
    "petal_length": 1.4
  },
  "code_files": [
    "features.py"
  ],
  "allow_unsafe": true,
  "unsafe_consent": "2026-11-28T09:30:00.123456Z",
  "allow_packages": [
    "irislib"
  ],
  "packages_consent": "2026-11-28T09:30:00.123456Z",
  "inspection": {
    "format": "pickle",
    "compression": "",
    "globals": [],
    "pins": [
      {
        "distribution": "scikit-learn",
        "specifier": "==1.6.1",
        "evidence": "the pickle says so"
      }
    ],
    "python": null,
    "dangers": [],
    "missing_code": [],
    "unknown_modules": [],
    "unknown_pins": [],
    "second_opinion": [],
    "facts": {}
  },
  "lock": {
    "python": "3.11",
    "text": "scikit-learn==1.6.1\n",
    "pins": [
      {
        "distribution": "scikit-learn",
        "specifier": "==1.6.1",
        "evidence": "the pickle says so"
      }
    ],
    "python_evidence": "the file says so"
  },
  "signature": {
    "kind": "table",
    "inputs": [
      {
        "name": "petal_length",
        "datatype": "FP64",
        "shape": [
          -1,
          1
        ],
        "choices": [],
        "optional": false
      }
    ],
    "outputs": [],
    "named": false,
    "methods": [
      "predict"
    ],
    "classes": []
  },
  "sample": {
    "petal_length": 1.4
  },
  "runtime": {
    "rss_bytes": 1000
  },
  "accelerate": "auto",
  "acceleration": {
    "status": "kept",
    "reason": "not faster",
    "report": {
      "reason": "not faster",
      "speedup": {
        "1": 0.9
      },
      "rows_compared": 0,
      "max_difference": 0.0,
      "tolerance": {},
      "converter": ""
    },
    "lock": null,
    "converter_lock": null
  },
  "bounds": {
    "max_batch_size": 8,
    "queue_length": null,
    "batch_window_ms": 0.5,
    "predict_timeout_seconds": 2.0
  },
  "calling": {
    "method": "predict_proba",
    "batchable": true,
    "inputs": [],
    "outputs": [],
    "source": "",
    "strict": true
  },
  "models_folder": "iris",
  "execution": {
    "gpus": {
      "count": 0,
      "ids": []
    },
    "providers": [
      "CPUExecutionProvider"
    ],
    "threads": 3
  },
  "replicas": 3
}
"""


def write_record(folder: Path, content: str) -> Path:
    path = folder / MODEL.model_id / "model.json"
    path.parent.mkdir()
    path.write_text(content)
    return path


async def test_a_record_whose_fields_stand_side_by_side_is_read_and_then_written_in_three_parts(tmp_path: Path) -> None:
    path = write_record(tmp_path, FLAT)
    store = ModelStore(tmp_path)
    store.load()
    assert store.all() == (MODEL,)
    await store.save(MODEL)
    assert set(json.loads(path.read_text())) == {"identity", "spec", "findings"}
    again = ModelStore(tmp_path)
    again.load()
    assert again.all() == (MODEL,)


def test_a_flat_record_of_a_model_that_was_not_resolved_keeps_what_its_owner_asked_for(tmp_path: Path) -> None:
    early = {key: json.loads(FLAT)[key] for key in ("model_id", "name", "version", "artifact", "created_at")}
    write_record(tmp_path, json.dumps({**early, "target": "docker"}))
    store = ModelStore(tmp_path)
    store.load()
    (model,) = store.all()
    assert (model.target, model.findings.lock, model.spec.replicas) == ("docker", None, 1)


async def test_a_record_with_the_most_deeply_nested_sample_is_read_again(tmp_path: Path) -> None:
    sample = read_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    model = with_facts(MODEL, expected_input=sample, sample=sample)
    await ModelStore(tmp_path).save(model)
    store = ModelStore(tmp_path)
    store.load()
    assert store.all() == (model,)


@pytest.mark.parametrize("content", [b"", b"{", b'{"model_id": "\xff"}', b'{"a":' * 100_000])
def test_a_record_that_is_damaged_is_left_where_it_is_and_reported(tmp_path: Path, content: bytes) -> None:
    record = tmp_path / "m1" / "model.json"
    record.parent.mkdir()
    record.write_bytes(content)
    store = ModelStore(tmp_path)
    with capture_logs() as logged:
        store.load()
    assert store.all() == ()
    assert [one["path"] for one in logged] == [str(record)]
    assert record.read_bytes() == content
