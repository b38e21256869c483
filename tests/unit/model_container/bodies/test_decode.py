"""Each dialect takes what its protocol says, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.contract.frames import DIALECT_JSON, DIALECT_MLFLOW, DIALECT_V1, Request

ROWS = [[0.1, 0.2, 0.3, 0.4], [-1.0, 2.0, 0.5, 0.0]]


def asked(model: Any, dialect: int, body: Any) -> tuple[int, Any]:
    made = body if isinstance(body, bytes) else json.dumps(body).encode()
    (answer,), _, _ = Batcher(EstimatorAdapter(model)).run([Request(made, dialect)])
    said = json.loads(answer.body)
    return answer.status, said["predictions"] if answer.status == 200 else said["code"]


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (DIALECT_V1, {"instances": ROWS}),
        (DIALECT_V1, {"inputs": ROWS}),
        (DIALECT_V1, {"parameters": {"a": 1}, "instances": ROWS}),
        (DIALECT_MLFLOW, {"instances": ROWS}),
        (DIALECT_MLFLOW, {"inputs": ROWS}),
        (DIALECT_MLFLOW, {"inputs": ROWS, "params": {"a": 1}}),
        (DIALECT_MLFLOW, {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}}),
        (DIALECT_MLFLOW, {"dataframe_records": [dict(zip("abcd", row, strict=True)) for row in ROWS]}),
    ],
)
def test_each_body_format_of_a_protocol_gives_the_native_answer(classifier: Any, dialect: int, body: Any) -> None:
    wanted = asked(classifier, DIALECT_JSON, {"features": ROWS})
    assert wanted[0] == 200
    assert asked(classifier, dialect, body) == wanted


@pytest.mark.parametrize("dialect", [DIALECT_V1, DIALECT_MLFLOW])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"features": ROWS}, "unknown_dialect"),
        (ROWS, "unknown_dialect"),
        (3, "unknown_dialect"),
        ({}, "unknown_dialect"),
        ({"instances": ROWS, "inputs": ROWS}, "unknown_dialect"),
        ({"instances": ROWS, "rows": 1}, "unknown_keys"),
        (b"", "empty_body"),
        (b"{", "not_json"),
    ],
)
def test_what_is_of_another_protocol_is_refused(classifier: Any, dialect: int, body: Any, code: str) -> None:
    status, said = asked(classifier, dialect, body)
    assert status in (400, 422)
    assert said == code


def test_v1_knows_no_dataframes(classifier: Any) -> None:
    assert asked(classifier, DIALECT_V1, {"dataframe_split": {"data": ROWS}}) == (422, "unknown_dialect")


def test_a_list_of_v2_tensors_is_no_v2_request_to_mlflow(classifier: Any) -> None:
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
    assert asked(classifier, DIALECT_MLFLOW, {"inputs": [tensor]}) == (422, "ragged_rows")


def test_missing_values_may_come_as_python_writes_them(pipeline: Any) -> None:
    frame = {"columns": ["age", "city", "rooms"], "data": [[float("nan"), "lima", 2]]}
    made = json.dumps({"dataframe_split": frame}).encode()
    assert b"NaN" in made
    frame["data"][0][0] = None
    assert asked(pipeline, DIALECT_MLFLOW, made) == asked(pipeline, DIALECT_JSON, {"dataframe_split": frame})


def test_an_infinity_is_named_where_the_model_takes_none(classifier: Any) -> None:
    assert asked(classifier, DIALECT_MLFLOW, b'{"inputs": [[Infinity, 1, 2, 3]]}') == (422, "not_a_number")


def test_a_dialect_that_is_not_known_is_refused(classifier: Any) -> None:
    assert asked(classifier, 99, {"instances": ROWS}) == (400, "unknown_dialect")
