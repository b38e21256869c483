"""Requests of the Open Inference Protocol V2, in JSON and in binary, as Triton's own client writes them."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tritonclient.http import InferRequestedOutput

from model_container.adapters.base import Adapter
from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.bodies.values import DTYPES
from model_container.contract.frames import FORM_V2, FORM_V2_BINARY
from tests.unit.model_container.asking import ask
from tests.unit.model_container.graphs import adapter_of, graph
from tests.unit.model_container.triton_bodies import answers, body, infer, marked, objects, problem

KINDS = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    **{f"{sign}INT{bits}": getattr(TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
}
SHAPES = npst.array_shapes(min_dims=2, max_dims=2, max_side=4)
ROWS = np.array([[0.1, -0.2, 0.3, 0.4], [1.0, 2.0, -3.0, 4.0], [0.0, 0.5, 0.25, 8.0]])


def echo() -> EstimatorAdapter:
    """A model that takes anything and answers with it."""
    return EstimatorAdapter(lambda rows: rows)


def identity(kind: int, shape: tuple[Any, ...] = (None, None)) -> Adapter:
    return adapter_of(graph([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)]))


IDENTITIES = {datatype: Batcher(identity(kind)) for datatype, kind in KINDS.items()}


@pytest.mark.parametrize("datatype", sorted(KINDS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_each_datatype_passes_through_a_graph_in_binary_as_in_json(datatype: str, data: st.DataObject) -> None:
    if datatype == "BYTES":
        elements: Any = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=5)
        array = data.draw(npst.arrays(object, SHAPES, elements=elements))
    else:
        elements = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
        array = data.draw(npst.arrays(DTYPES[datatype], SHAPES, elements=elements))
    target = IDENTITIES[datatype]
    for binary in (True, False):
        outputs = [InferRequestedOutput("y", binary_data=binary)]
        back = infer(target, body({"x": array}, binary=binary, outputs=outputs)).as_numpy("y")
        assert back.shape == array.shape
        back = np.array([[as_text(one) for one in row] for row in back], dtype=object) if datatype == "BYTES" else back
        np.testing.assert_array_equal(back, array)


def as_text(item: str | bytes) -> str:
    return item.decode() if isinstance(item, bytes) else item


def test_bfloat16_passes_in_binary() -> None:
    target = identity(TensorProto.BFLOAT16)
    array = np.array([[1.5, -0.25, 3e38]], dtype=ml_dtypes.bfloat16)
    back = infer(target, body({"x": array})).as_numpy("y")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_nan_and_infinities_pass_in_binary() -> None:
    array = np.array([[np.nan, np.inf, -np.inf, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(infer(IDENTITIES["FP32"], body({"x": array})).as_numpy("y"), array)


def test_nan_and_infinities_are_read_as_python_writes_them_in_json() -> None:
    array = np.array([[np.nan, np.inf, -np.inf, 0.0]], dtype=np.float32)
    outputs = [InferRequestedOutput("y", binary_data=True)]
    made = body({"x": array}, binary=False, outputs=outputs)
    assert b"NaN" in made
    np.testing.assert_array_equal(infer(IDENTITIES["FP32"], made).as_numpy("y"), array)


@settings(max_examples=60, deadline=None)
@given(
    rows=npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=2, max_side=4), elements={"allow_nan": False})
)
def test_arbitrary_doubles_come_back_bit_for_bit(rows: np.ndarray) -> None:
    assert infer(echo(), body({"x": rows})).as_numpy("predictions").tobytes() == rows.tobytes()


@settings(max_examples=60, deadline=None)
@given(items=st.lists(st.binary(max_size=8), min_size=1, max_size=5))
def test_arbitrary_bytes_come_back_from_a_model_that_takes_them(items: list[bytes]) -> None:
    back = infer(echo(), body({"x": objects(*items)[np.newaxis]})).as_numpy("predictions")
    assert back.tolist() == [items]


class TestColumns:
    """A classifier of four columns without names, one with named columns of mixed types."""

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32])
    def test_a_matrix_answers_the_same_in_binary_in_json_and_natively(
        self, classifier: LogisticRegression, dtype: Any
    ) -> None:
        target = Batcher(EstimatorAdapter(classifier))
        rows = ROWS.astype(dtype)
        native = ask(target, {"features": rows.tolist()}).json["predictions"]
        for binary in (True, False):
            back = infer(target, body({"anything": rows}, binary=binary)).as_numpy("predictions")
            assert [as_text(one) for one in back] == native

    @settings(max_examples=30, deadline=None)
    @given(rows=npst.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(4)), elements=st.floats(-9, 9)))
    def test_columns_one_by_one_answer_as_the_matrix(self, classifier: LogisticRegression, rows: np.ndarray) -> None:
        target = Batcher(EstimatorAdapter(classifier))
        names = [one["name"] for one in EstimatorAdapter(classifier).signature()["inputs"]]
        columns = {name: np.ascontiguousarray(rows[:, index]) for index, name in enumerate(names)}
        flat, tall = columns, {name: column.reshape(-1, 1) for name, column in columns.items()}
        wanted = infer(target, body({"rows": rows})).as_numpy("predictions").tolist()
        for arrays in (flat, tall):
            for binary in (True, False):
                back = infer(target, body(arrays, binary=binary)).as_numpy("predictions")
                assert [as_text(one).encode() for one in back] == wanted

    def test_columns_of_mixed_types_go_by_name(self, pipeline: Any) -> None:
        target = Batcher(EstimatorAdapter(pipeline))
        arrays = {"rooms": np.array([1, 3]), "age": np.array([20.5, np.nan]), "city": objects("lima", "berlin")}
        records = [{"age": 20.5, "city": "lima", "rooms": 1}, {"age": None, "city": "berlin", "rooms": 3}]
        native = ask(target, {"dataframe_records": records}).json["predictions"]
        assert [as_text(one) for one in infer(target, body(arrays)).as_numpy("predictions")] == native

    def test_a_wrong_width_gets_the_same_error_as_in_json(self, classifier: LogisticRegression) -> None:
        target = Batcher(EstimatorAdapter(classifier))
        said = [problem(target, body({"x": ROWS[:, :3]}, binary=binary)) for binary in (True, False)]
        assert said[0] == said[1]
        assert said[0]["code"] == "wrong_width"

    def test_a_text_in_place_of_a_number_is_reported(self, classifier: LogisticRegression) -> None:
        said = problem(EstimatorAdapter(classifier), body({"x": objects("a", "b", "c", "d")[np.newaxis]}))
        assert said["code"] == "not_a_number"

    def test_a_request_without_rows_is_reported(self, classifier: LogisticRegression) -> None:
        said = problem(EstimatorAdapter(classifier), body({"x": ROWS[:0]}))
        assert said["code"] == "no_rows"

    def test_requests_of_both_kinds_are_joined_and_answered_apart(self, classifier: LogisticRegression) -> None:
        target = Batcher(EstimatorAdapter(classifier))
        bodies = [
            body({"x": ROWS[:1]}),
            body({"x": ROWS[1:]}, binary=False, outputs=[InferRequestedOutput("predictions", binary_data=False)]),
            body({"x": ROWS[:, :2]}),
            body({"x": ROWS}),
        ]
        joined = answers(target, *bodies)
        assert joined == [answers(target, one)[0] for one in bodies]
        assert [one.form for one in joined[:2]] == [FORM_V2_BINARY, FORM_V2]


def test_texts_are_read_in_binary() -> None:
    texts = ["a good day", "a bad day", "good good", "bad"]
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, ["+", "-", "+", "-"])
    back = infer(EstimatorAdapter(model), body({"text": objects("good", "bad")})).as_numpy("predictions")
    assert [as_text(one) for one in back] == ["+", "-"]


def test_bytes_that_are_no_utf_8_are_refused_where_a_graph_takes_strings() -> None:
    said = problem(IDENTITIES["BYTES"], body({"x": objects(b"\xff")[np.newaxis]}))
    assert said["code"] == "not_utf8"


class TestOutputs:
    def graph(self) -> Batcher:
        nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
        ports: list[Any] = [(name, TensorProto.FLOAT, ("n", 2)) for name in ("a", "b", "sum", "product")]
        return Batcher(adapter_of(graph(nodes, ports[:2], ports[2:])))

    def body(self, **given: Any) -> bytes:
        array = np.array([[1, 2]], dtype=np.float32)
        return body({"a": array, "b": array}, **given)

    def test_come_in_the_order_in_which_they_are_asked_for(self) -> None:
        outputs = [InferRequestedOutput("product", binary_data=True), InferRequestedOutput("sum", binary_data=False)]
        result = infer(self.graph(), self.body(outputs=outputs, request_id="q1"))
        said = result.get_response()
        assert said["id"] == "q1"
        assert [one["name"] for one in said["outputs"]] == ["product", "sum"]
        assert said["outputs"][0]["parameters"] == {"binary_data_size": 8}
        assert "data" not in said["outputs"][0]
        assert said["outputs"][1]["data"] == [2.0, 4.0]
        np.testing.assert_array_equal(result.as_numpy("product"), [[1, 4]])

    def test_may_be_a_part_of_them(self) -> None:
        result = infer(self.graph(), self.body(outputs=[InferRequestedOutput("sum")]))
        assert [one["name"] for one in result.get_response()["outputs"]] == ["sum"]

    def test_all_come_in_binary_if_the_request_says_so_and_none_says_otherwise(self) -> None:
        request = {
            "inputs": [{"name": n, "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} for n in "ab"],
            "parameters": {"binary_data_output": True, "whatever": 1},
            "outputs": [{"name": "sum"}, {"name": "product", "parameters": {"binary_data": False}}],
        }
        said = infer(self.graph(), marked(json.dumps(request).encode())).get_response()["outputs"]
        assert ["data" in one for one in said] == [False, True]

    def test_that_do_not_exist_are_named(self) -> None:
        said = problem(self.graph(), self.body(outputs=[InferRequestedOutput("quotient")]))
        assert said["code"] == "unknown_output"
        assert "sum" in said["hint"]

    def test_probabilities_come_if_they_are_asked_for(self, classifier: LogisticRegression) -> None:
        outputs = [InferRequestedOutput("probabilities"), InferRequestedOutput("predictions")]
        result = infer(EstimatorAdapter(classifier), body({"x": ROWS}, outputs=outputs))
        np.testing.assert_allclose(result.as_numpy("probabilities"), classifier.predict_proba(ROWS))
        assert result.as_numpy("predictions").tolist() == [one.encode() for one in classifier.predict(ROWS)]


class TestRaw:
    """A request without JSON, whose length is said to be 0."""

    def test_is_the_only_input_whose_rows_its_size_tells(self) -> None:
        rows = ROWS.astype(np.float32)
        target = identity(TensorProto.FLOAT, ("n", 4))
        assert infer(target, marked(rows.tobytes(), 0)).as_numpy("y").tolist() == rows.tolist()

    def test_is_the_matrix_of_a_model_with_columns(self, classifier: LogisticRegression) -> None:
        back = infer(EstimatorAdapter(classifier), marked(ROWS.tobytes(), 0)).as_numpy("predictions")
        assert back.tolist() == classifier.predict(ROWS).tolist()

    def test_may_be_one_text(self) -> None:
        target = identity(TensorProto.STRING, ("n",))
        assert infer(target, marked("für".encode(), 0)).as_numpy("y").tolist() == ["für"]

    def test_that_does_not_fit_is_refused(self) -> None:
        target = identity(TensorProto.FLOAT, ("n", 4))
        assert problem(target, marked(b"\0" * 15, 0))["code"] == "wrong_binary_size"

    def test_for_several_inputs_is_refused(self) -> None:
        assert problem(TestOutputs().graph(), marked(b"\0" * 16, 0))["code"] == "raw_not_possible"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2], **changes}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({}, "unknown_dialect"),
        ([], "unknown_dialect"),
        ({"inputs": {}}, "unknown_dialect"),
        ({"inputs": [1]}, "unknown_dialect"),
        ({"inputs": [tensor(name=1)]}, "unknown_dialect"),
        ({"inputs": [tensor(datatype="LONG")]}, "wrong_datatype"),
        ({"inputs": [tensor(datatype=["FP64"])]}, "wrong_datatype"),
        ({"inputs": [tensor(shape=[1, -2])]}, "wrong_shape"),
        ({"inputs": [tensor(shape=[1.0])]}, "wrong_shape"),
        ({"inputs": [tensor(shape=[1] * 40)]}, "wrong_shape"),
        ({"inputs": [tensor(shape=[1, 3])]}, "wrong_shape"),
        ({"inputs": [tensor(data=None)]}, "wrong_shape"),
        ({"inputs": [tensor(shape=[0, 1 << 62], data=[])]}, "wrong_shape"),
        ({"inputs": [tensor(), tensor()]}, "wrong_columns"),
        ({"inputs": [tensor(parameters=[])]}, "unknown_dialect"),
        ({"inputs": [tensor(parameters={"binary_data_size": 16})]}, "unknown_dialect"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "not_offered"),
        ({"inputs": [tensor()], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}, "not_offered"),
        ({"inputs": [tensor()], "outputs": {}}, "unknown_dialect"),
        ({"inputs": [tensor()], "outputs": [{}]}, "unknown_dialect"),
        ({"inputs": [tensor()], "imputs": 1}, "unknown_keys"),
        ({"features": [[1, 2]]}, "unknown_dialect"),
    ],
)
def test_an_invalid_v2_request_is_rejected_with_the_reason(request_: Any, code: str) -> None:
    assert problem(IDENTITIES["FP64"], marked(json.dumps(request_).encode()))["code"] == code


@pytest.mark.parametrize("size", [-1, 1.5, "16", True])
def test_an_invalid_binary_data_size_is_rejected(size: Any) -> None:
    one = {key: value for key, value in tensor(parameters={"binary_data_size": size}).items() if key != "data"}
    made = json.dumps({"inputs": [one]}).encode()
    assert problem(IDENTITIES["FP64"], marked(made + b"\0" * 16, len(made)))["code"] == "unknown_dialect"


@pytest.mark.parametrize("behind", [b"", b"\0" * 15, b"\0" * 17])
def test_bytes_behind_the_json_that_do_not_add_up_are_refused(behind: bytes) -> None:
    one = {key: value for key, value in tensor(parameters={"binary_data_size": 16}).items() if key != "data"}
    made = json.dumps({"inputs": [one]}).encode()
    assert problem(IDENTITIES["FP64"], marked(made + behind, len(made)))["code"] == "wrong_binary_size"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_body_with_bytes_changed_is_answered_or_refused_and_never_fails(data: st.DataObject) -> None:
    """In the JSON, in the length in front of it and in the tensors, of numbers and of texts."""
    target, array = data.draw(
        st.sampled_from(
            [
                (IDENTITIES["FP64"], ROWS),
                (IDENTITIES["BYTES"], objects("a", "für")[np.newaxis]),
                (Batcher(echo()), objects(b"\xff", "b")[np.newaxis]),
            ]
        )
    )
    made = bytearray(body({"x": array}, binary=data.draw(st.booleans()) or array[0, 0] == b"\xff"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(made) - 1))
        piece = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"[", b"]", b"{}", b"-1", b"1e99", b"null"]))
        )
        made[at : at + data.draw(st.integers(0, 3))] = piece
    (answer,) = answers(target, bytes(made).ljust(4, b"\0"))
    assert answer.status in (200, 400, 422), answer.body
