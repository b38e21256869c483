from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from model_container.adapters.onnx.adapter import OnnxAdapter
from model_container.batch import Batcher
from tests.unit.model_container.asking import ask, ask_all, predictions
from tests.unit.model_container.graphs import adapter_of, graph

Load = Callable[[ModelProto], OnnxAdapter]


@pytest.fixture
def load() -> Load:
    return adapter_of


def identity(kind: int, shape: Sequence[int | str | None] = ("n", 2)) -> ModelProto:
    return graph([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])


def two_inputs() -> ModelProto:
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    ports = [(name, TensorProto.FLOAT, ("n", 2, 2)) for name in ("a", "b", "sum", "product")]
    return graph(nodes, ports[:2], ports[2:])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "datatype", "row"),
    [
        (TensorProto.FLOAT16, "FP16", [1.5, -2]),
        (TensorProto.BFLOAT16, "BF16", [1.5, -2]),
        (TensorProto.FLOAT, "FP32", [1.5, -2]),
        (TensorProto.DOUBLE, "FP64", [0.1, 1e300]),
        (TensorProto.INT8, "INT8", [127, -128]),
        (TensorProto.INT16, "INT16", [32767, -32768]),
        (TensorProto.INT32, "INT32", [2**31 - 1, -(2**31)]),
        (TensorProto.INT64, "INT64", [2**63 - 1, -(2**63)]),
        (TensorProto.UINT8, "UINT8", [255, 0]),
        (TensorProto.UINT16, "UINT16", [65535, 0]),
        (TensorProto.UINT32, "UINT32", [2**32 - 1, 0]),
        (TensorProto.UINT64, "UINT64", [2**64 - 1, 2**64 - 2]),
        (TensorProto.BOOL, "BOOL", [True, False]),
        (TensorProto.STRING, "BYTES", ["a", "ü"]),
    ],
)
def test_every_standard_datatype_passes_unchanged(load: Load, kind: int, datatype: str, row: list[Any]) -> None:
    adapter = load(identity(kind))
    assert predictions(adapter, {"features": [row, row]}) == [row, row]
    assert adapter.signature()["inputs"][0]["datatype"] == datatype
    assert ask(adapter, adapter.samples()[0]).status == 200


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (TensorProto.FLOAT, 1e39, "number_out_of_range"),
        (TensorProto.FLOAT16, 70000, "number_out_of_range"),
        (TensorProto.INT8, 128, "number_out_of_range"),
        (TensorProto.UINT8, -1, "number_out_of_range"),
        (TensorProto.INT64, 2**63, "number_out_of_range"),
        (TensorProto.INT64, 1.5, "not_an_integer"),
        (TensorProto.INT64, None, "missing_value"),
        (TensorProto.BOOL, 2, "number_out_of_range"),
        (TensorProto.FLOAT, "1", "not_a_number"),
        (TensorProto.STRING, 1, "not_a_string"),
    ],
)
def test_values_beyond_a_datatype_are_named(load: Load, kind: int, value: Any, code: str) -> None:
    fine = "a" if kind == TensorProto.STRING else 0
    reply = ask(load(identity(kind)), {"features": [[fine, fine], [fine, value]]})
    assert (reply.status, reply.json["code"]) == (422, code)
    assert (reply.json["row"], reply.json["column"]) == (1, "feature2")


def test_several_inputs_go_by_name_and_several_outputs_come_by_name(load: Load) -> None:
    adapter = load(two_inputs())
    one = {"a": [[1, 2], [3, 4]], "b": [[1, 1], [2, 2]]}
    expected = {"sum": [[2, 3], [5, 6]], "product": [[1, 2], [6, 8]]}
    assert predictions(adapter, {"inputs": one}) == [expected]
    assert predictions(adapter, {"instances": [one, one]}) == [expected, expected]
    assert predictions(adapter, {name: [value, value] for name, value in one.items()}) == [expected, expected]


def test_v2_tensors_are_answered_with_the_outputs_asked_for(load: Load) -> None:
    tensors = [{"name": name, "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]} for name in "ab"]
    adapter = load(two_inputs())
    reply = ask(adapter, {"inputs": tensors, "outputs": [{"name": "product"}]})
    assert reply.json["outputs"] == [
        {"name": "product", "datatype": "FP32", "shape": [1, 2, 2], "data": [1.0, 4.0, 9.0, 16.0]}
    ]
    assert ask(adapter, {"inputs": tensors, "outputs": [{"name": "z"}]}).json["code"] == "unknown_output"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([[1]], "wrong_columns"),
        ({"a": [[1, 2], [3, 4]]}, "wrong_columns"),
        ({"a": [[1, 2, 3], [3, 4, 5]], "b": [[1, 1], [2, 2]]}, "wrong_shape"),
        ({"a": 1, "b": 2}, "wrong_shape"),
        ({"a": [[[1, 2], [3, 4]]] * 2, "b": [[[1, 2], [3, 4]]] * 3}, "ragged_rows"),
    ],
)
def test_what_does_not_fit_the_tensors_is_named(load: Load, body: Any, code: str) -> None:
    reply = ask(load(two_inputs()), body)
    assert (reply.status, reply.json["code"]) == (422, code)


def test_a_single_matrix_is_read_like_a_table(load: Load) -> None:
    adapter = load(identity(TensorProto.FLOAT))
    bodies: list[Any] = [{"x": [[1, 2]]}, {"x": [1, 2]}, {"inputs": {"x": [1, 2]}}, [1, 2], {"p": 1, "q": 2}]
    assert [predictions(adapter, body) for body in bodies] == [[[1, 2]]] * len(bodies)


def test_a_fixed_batch_of_one_is_run_row_by_row(load: Load) -> None:
    adapter = load(identity(TensorProto.FLOAT, (1, 2)))
    assert not adapter.joinable
    assert predictions(adapter, {"features": [[1, 2], [3, 4]]}) == [[1, 2], [3, 4]]


def test_an_output_without_rows_belongs_to_the_whole_request(load: Load) -> None:
    total = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    model = graph(total, [("x", TensorProto.FLOAT, ("n", 2))], [("y", TensorProto.FLOAT, ())])
    replies = ask_all(Batcher(load(model)), [{"features": [[1, 2], [3, 4]]}, [[5, 6]]])
    assert [reply.json["predictions"] for reply in replies] == [[10], [11]]


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_converted_classifier_predicts_labels_and_on_request_probabilities(
    load: Load, matrix: Any, labels: Any, zipmap: bool
) -> None:
    model = LogisticRegression().fit(matrix, labels)
    options = {"zipmap": zipmap}
    adapter = load(to_onnx(model, matrix[:1].astype(np.float32), options={LogisticRegression: options}))
    body = {"features": matrix[:3].tolist()}
    assert predictions(adapter, body) == model.predict(matrix[:3]).tolist()
    reply = ask(adapter, body, probabilities=True)
    np.testing.assert_allclose(reply.json["probabilities"], model.predict_proba(matrix[:3]), atol=1e-5)
    assert reply.json["classes"] == (["maybe", "no", "yes"] if zipmap else [])


def test_inputs_of_one_column_each_make_a_table_with_names(load: Load) -> None:
    ports = [("age", TensorProto.FLOAT, ("n", 1)), ("city", TensorProto.STRING, ("n", 1))]
    outputs = [("age_out", TensorProto.FLOAT, ("n", 1)), ("city_out", TensorProto.STRING, ("n", 1))]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("age", "city")]
    adapter = load(graph(nodes, ports, outputs))  # type: ignore[arg-type]
    expected = [{"age_out": [30], "city_out": ["lima"]}]
    for body in (
        {"city": "lima", "age": 30},
        {"features": [[30, "lima"]]},
        {"instances": [{"age": 30, "city": "lima"}]},
    ):
        assert predictions(adapter, body) == expected
    assert adapter.signature()["named"]
    assert "Did you mean" in ask(adapter, {"city": "lima", "agee": 30}).json["hint"]
