"""What differs between two versions, and which differences break callers."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.acceleration import Acceleration, Report
from app.core.environment import Lock
from app.core.inspection import Format, Inspection, Pin
from app.core.model import Artifact, ModelVersion
from app.core.signature import Signature, Tensor
from app.core.version_difference import Change, difference, framework_of, metrics_of
from tests.records import model_version

AGE, CITY = Tensor("age", "FP64", (-1,)), Tensor("city", "BYTES", (-1,))


def version(number: str, *inputs: Tensor, lock: str = "numpy==2.0.0", sha256: str = "0", **facts: Any) -> ModelVersion:
    return model_version(
        number,
        "iris",
        number,
        Artifact("m.pkl", sha256 * 64, 10),
        number,
        signature=Signature("table", inputs, named=True),
        lock=Lock("3.11", lock),
        **facts,
    )


def test_equal_versions_differ_in_nothing() -> None:
    found = difference(version("1.0.0", AGE), version("2.0.0", AGE))
    assert found.same_artifact
    changes = (found.inputs, found.outputs, found.breaks, found.packages, found.metrics, found.speedup)
    assert not any(changes)


def test_packages_metrics_and_measured_speed_are_compared_by_name() -> None:
    before = version("1.0.0", lock="numpy==2.0.0\njoblib==1.5.0", metadata={"auc": 0.9, "author": "Ada"})
    after = version(
        "2.0.0",
        lock="numpy==2.1.0\nscipy==1.15.0",
        sha256="1",
        metadata={"metrics": {"auc": 0.94, "rows": 10}, "stable": True},
        acceleration=Acceleration(report=Report(speedup={"1": 40.0})),
    )
    found = difference(before, after)
    assert not found.same_artifact
    assert found.packages == (
        Change("joblib", "1.5.0", None),
        Change("numpy", "2.0.0", "2.1.0"),
        Change("scipy", None, "1.15.0"),
    )
    assert found.metrics == (Change("auc", 0.9, 0.94), Change("rows", None, 10))
    assert found.speedup == (Change("1", None, 40.0),)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([AGE], [AGE, CITY], "The input `city` is new"),
        ([AGE], [Tensor("age", "INT64", (-1,))], "was FP64 and is INT64"),
        ([AGE], [Tensor("age", "FP64", (-1, 2))], "had the shape [-1] and has [-1, 2]"),
        ([Tensor("age", "FP64", (-1,), optional=True)], [AGE], "could be left out"),
        ([AGE, CITY], [AGE], ""),
        ([AGE], [AGE, Tensor("city", "BYTES", (-1,), optional=True)], ""),
    ],
)
def test_only_what_refuses_requests_of_before_breaks_callers(
    before: list[Tensor], after: list[Tensor], told: str
) -> None:
    breaks = difference(version("1.0.0", *before), version("2.0.0", *after)).breaks
    assert len(breaks) == bool(told)
    assert told in "".join(breaks)


def test_metrics_are_the_numbers_of_the_metadata() -> None:
    assert metrics_of({"auc": 0.9, "ok": True, "who": "Ada", "metrics": {"auc": 0.95, "n": 3}}) == {"auc": 0.95, "n": 3}
    assert metrics_of({"metrics": [1]}) == {}


@pytest.mark.parametrize(
    ("inspection", "framework"),
    [
        (Inspection(Format.ONNX), "onnx"),
        (Inspection(Format.JOBLIB, pins=(Pin("scikit-learn", "", ""), Pin("xgboost", "", ""))), "xgboost"),
        (Inspection(Format.PICKLE, pins=(Pin("scikit-learn", "", ""),)), "sklearn"),
        (Inspection(Format.PICKLE), "other"),
        (None, "other"),
    ],
)
def test_the_framework_is_read_from_the_file(inspection: Inspection | None, framework: str) -> None:
    assert framework_of(inspection) == framework
