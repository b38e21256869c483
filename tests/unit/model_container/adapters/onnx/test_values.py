"""What an ONNX graph may take and give besides rows of numbers, and how a request writes it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from model_container.adapters.onnx.adapter import load_onnx
from model_container.adapters.onnx.providers import chosen_providers
from model_container.batch import Batcher
from model_container.contract.config import RuntimeConfig
from tests.unit.model_container.adapters.onnx.onnx_lab import same
from tests.unit.model_container.asking import Reply, ask, ask_all, predictions
from tests.unit.model_container.graphs import FLOAT, adapter_of, graph


def v2(**tensors: tuple[str, list[int], list[Any]]) -> dict[str, Any]:
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "data": data}
        for name, (datatype, shape, data) in tensors.items()
    ]
    return {"inputs": inputs}


def output(reply: Reply) -> tuple[str, list[int], list[Any]]:
    """Datatype, shape and data of the only V2 output."""
    assert reply.status == 200, reply
    (tensor,) = reply.json["outputs"]
    return tensor["datatype"], tensor["shape"], tensor["data"]


# Shapes


def test_a_scalar_is_a_value_and_in_v2_a_tensor_without_dimensions() -> None:
    adapter = adapter_of(same(FLOAT, ()))
    assert [predictions(adapter, body) for body in ({"x": 2}, {"x": [2, 3]}, [4])] == [[2], [2, 3], [4]]
    assert output(ask(adapter, v2(x=("FP32", [], [2])))) == ("FP32", [], [2])
    assert output(ask(adapter, v2(x=("FP32", [1], [2])))) == ("FP32", [], [2])


def test_a_graph_that_gives_no_shape_takes_any() -> None:
    adapter = adapter_of(same(FLOAT, None))
    assert output(ask(adapter, v2(x=("FP32", [3], [1, 2, 3])))) == ("FP32", [3], [1, 2, 3])
    assert output(ask(adapter, v2(x=("FP32", [0, 2], [])))) == ("FP32", [0, 2], [])
    assert predictions(adapter, {"inputs": {"x": [[1, 2], [3, 4]]}}) == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize("shape", [(2, 0, 4), (2, "n", 4), ("m", "n", 4)])
def test_a_tensor_may_hold_nothing(shape: tuple[Any, ...]) -> None:
    assert output(ask(adapter_of(same(FLOAT, shape)), v2(x=("FP32", [2, 0, 4], [])))) == ("FP32", [2, 0, 4], [])


def test_natively_a_tensor_that_holds_nothing_takes_its_fixed_shape() -> None:
    reply = ask(adapter_of(same(FLOAT, (2, 0, 4))), {"inputs": {"x": [[], []]}})
    assert reply.json["predictions"] == [[], []]


def test_a_table_needs_rows() -> None:
    for body in (v2(x=("FP32", [0, 2], [])), {"inputs": {"x": []}}):
        assert ask(adapter_of(same(FLOAT, ("n", 2))), body).json["code"] == "no_rows"


def test_requests_without_rows_are_not_joined_with_others() -> None:
    adapter = adapter_of(same(FLOAT, ("n", 2, 1)))
    assert adapter.joinable
    asked = [v2(x=("FP32", [0, 2, 1], [])), v2(x=("FP32", [1, 2, 1], [1, 2])), v2(x=("FP32", [0, 2, 1], []))]
    assert [output(reply)[1:] for reply in ask_all(Batcher(adapter), asked)] == [
        ([0, 2, 1], []),
        ([1, 2, 1], [1, 2]),
        ([0, 2, 1], []),
    ]


# Numbers


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("shape", [("n", 3), (3,)])
def test_infinities_come_in_as_words_and_leave_as_null(kind: int, shape: Any) -> None:
    model = graph([helper.make_node("IsInf", ["z"], ["y"])], [("x", kind, shape)], [("y", TensorProto.BOOL, shape)])
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["z"], to=FLOAT))
    words = ["Infinity", "-Infinity", "NaN"]
    assert np.ravel(predictions(adapter_of(model), {"inputs": {"x": words}})).tolist() == [True, True, False]
    assert np.ravel(predictions(adapter_of(same(kind, shape)), {"inputs": {"x": words}})).tolist() == [None] * 3


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (FLOAT, "infinity", "not_a_number"),
        (TensorProto.INT64, "Infinity", "not_a_number"),
        (TensorProto.BFLOAT16, 3.4e38, "number_out_of_range"),
        (TensorProto.BFLOAT16, 1e39, "number_out_of_range"),
    ],
)
def test_other_words_and_numbers_beyond_are_refused(kind: int, value: Any, code: str) -> None:
    reply = ask(adapter_of(same(kind, ("n", 2))), {"features": [["Infinity" if kind == FLOAT else 0, value]]})
    assert (reply.status, reply.json["code"], reply.json["column"]) == (422, code, "feature2")


def test_v2_says_of_bfloat16_what_it_is() -> None:
    adapter = adapter_of(same(TensorProto.BFLOAT16, ("n", 2)))
    reply = ask_all(Batcher(adapter), [v2(x=("BF16", [1, 2], [1.5, 0.1]))] * 2)[1]
    assert output(reply) == ("BF16", [1, 2], [1.5, 0.10009765625])


def test_bfloat16_goes_with_numbers_of_any_type_but_not_with_strings() -> None:
    def beside(kind: int) -> ModelProto:
        nodes = [helper.make_node("Identity", [source], [target]) for source, target in (("a", "c"), ("b", "d"))]
        ports = [
            [(name, one, ("n",)) for name, one in zip(names, (TensorProto.BFLOAT16, kind), strict=True)]
            for names in ("ab", "cd")
        ]
        return graph(nodes, *ports)

    assert predictions(adapter_of(beside(TensorProto.INT64)), {"a": 1.5, "b": 7}) == [{"c": 1.5, "d": 7}]
    with pytest.raises(TypeError, match="together with 'b'"):
        adapter_of(beside(TensorProto.STRING))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.UINT2])
def test_types_without_a_name_in_the_protocol_are_refused_at_the_load(kind: int) -> None:
    """Going in or coming out."""
    cast = helper.make_node("Cast", ["x"], ["y"], to=kind)
    back = helper.make_node("Cast", ["x"], ["y"], to=FLOAT)
    for model in (
        graph([cast], [("x", FLOAT, (2,))], [("y", kind, (2,))], opset=25),
        graph([back], [("x", kind, (2,))], [("y", FLOAT, (2,))], opset=25),
    ):
        model.ir_version = 13
        with pytest.raises(TypeError, match="cast it inside the graph"):
            adapter_of(model)


# Inputs that may be left out


def with_default() -> ModelProto:
    """x + bias, where bias is 10 unless the request says otherwise."""
    bias = numpy_helper.from_array(np.full(2, 10, dtype=np.float32), "bias")
    nodes = [helper.make_node("Add", ["x", "bias"], ["y"])]
    return graph(nodes, [("x", FLOAT, ("n", 2)), ("bias", FLOAT, (2,))], [("y", FLOAT, ("n", 2))], [bias])


def test_an_input_with_a_default_may_be_left_out_or_given() -> None:
    adapter = adapter_of(with_default())
    assert [one["name"] for one in adapter.signature()["inputs"]] == ["x"]
    assert predictions(adapter, [[1, 2]]) == [[11, 12]]
    assert predictions(adapter, {"x": [[1, 2]], "bias": [0, 1]}) == [[1, 3]]
    assert predictions(adapter, {"x": [[1, 2]], "bias": None}) == [[11, 12]]
    assert ask(adapter, {"x": [[1, 2]], "bias": [0, 1], "bia": 0}).json["unexpected"] == ["bia"]
    assert ask(adapter, {"bias": [0, 1]}).json["missing"] == ["x"]


def test_a_request_that_gives_a_default_otherwise_is_answered_alone() -> None:
    adapter = adapter_of(with_default())
    assert adapter.joinable
    asked: list[Any] = [[[1, 2]], {"x": [[1, 2]], "bias": [5, 5]}, [[3, 4]], {"x": [[1, 2]], "bias": [7, 7]}]
    found = [reply.json["predictions"] for reply in ask_all(Batcher(adapter), asked)]
    assert found == [[[11, 12]], [[6, 7]], [[13, 14]], [[8, 9]]]


def test_an_optional_input_may_be_left_out_or_null() -> None:
    kind = helper.make_optional_type_proto(helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None)))
    ports = [[helper.make_value_info(name, kind)] for name in ("x", "y")]
    adapter = adapter_of(graph([helper.make_node("Identity", ["x"], ["y"])], *ports))
    assert adapter.signature()["inputs"][0]["optional"]
    assert [predictions(adapter, body) for body in ({}, {"x": None}, {"x": [[1, 2]]})] == [[None], [None], [[[1, 2]]]]
    assert output(ask(adapter, {"inputs": []})) == ("BYTES", [0], [])
    assert output(ask(adapter, v2(x=("BYTES", [1], ["[1,2]"])))) == ("BYTES", [1], ["[1.0,2.0]"])


def test_a_model_without_inputs_is_asked_with_an_empty_request() -> None:
    constant = helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])
    adapter = adapter_of(graph([constant], [], [("y", FLOAT, (2,))]))
    assert adapter.samples()[0] == {"inputs": {}}
    assert predictions(adapter, {}) == [[1, 2]]
    assert output(ask(adapter, {"inputs": []})) == ("FP32", [2], [1, 2])
    assert ask(adapter, {"inputs": {"x": 1}}).json["unexpected"] == ["x"]


# Sequences and maps


def sequence_of(kind: int) -> Any:
    return helper.make_sequence_type_proto(helper.make_tensor_type_proto(kind, None))


def same_sequence(kind: int) -> ModelProto:
    ports = [[helper.make_value_info(name, sequence_of(kind))] for name in ("x", "y")]
    return graph([helper.make_node("Identity", ["x"], ["y"])], *ports)


@pytest.mark.parametrize(
    ("kind", "items", "texts"),
    [
        (FLOAT, [[1, None], [[3.5]], 4], ["[1.0,null]", "[[3.5]]", "4.0"]),
        (TensorProto.INT64, [[2**63 - 1], [0, -1]], [f"[{2**63 - 1}]", "[0,-1]"]),
        (TensorProto.BOOL, [[True], False], ["[true]", "false"]),
        (TensorProto.STRING, [["a", "ü"], ["[1]"]], ['["a","ü"]', '["[1]"]']),
    ],
)
def test_a_sequence_is_a_list_of_tensors_and_in_v2_the_json_of_each(
    kind: int, items: list[Any], texts: list[str]
) -> None:
    adapter = adapter_of(same_sequence(kind))
    assert predictions(adapter, {"x": items}) == [items]
    assert output(ask(adapter, v2(x=("BYTES", [len(texts)], texts)))) == ("BYTES", [len(texts)], texts)
    for one in (*adapter.signature()["inputs"], *adapter.signature()["outputs"]):
        assert (one["datatype"], one["shape"]) == ("BYTES", [-1])
    assert ask(adapter, adapter.samples()[0]).status == 200


def test_an_item_of_a_sequence_that_does_not_fit_is_named() -> None:
    adapter = adapter_of(same_sequence(FLOAT))
    for body, words in (
        ({"x": 5}, "a list of tensors"),
        ({"x": [[1], ["a"]]}, "'x[1]'"),
        (v2(x=("BYTES", [1], ["[1"])), "the JSON of item 0"),
    ):
        reply = ask(adapter, body)
        assert reply.status == 422
        assert words in reply.json["detail"]


def test_a_sequence_of_any_length_comes_out() -> None:
    split = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0, keepdims=0)
    out = helper.make_value_info("y", sequence_of(FLOAT))
    adapter = adapter_of(graph([split], [("x", FLOAT, ("n", 2))], [out]))
    assert not adapter.joinable
    replies = ask_all(Batcher(adapter), [{"inputs": {"x": [[1, 2], [3, 4]]}}, [[5, 6]]])
    assert [reply.json["predictions"] for reply in replies] == [[[[1, 2], [3, 4]]], [[[5, 6]]]]
    assert output(ask(adapter, v2(x=("FP32", [1, 2], [5, 6])))) == ("BYTES", [1], ["[5.0,6.0]"])


def of_map(key: int, **attributes: Any) -> ModelProto:
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, ()))
    nodes = [helper.make_node(inputs=["x"], outputs=["y"], domain="ai.onnx.ml", **attributes)]
    return graph(nodes, [helper.make_value_info("x", kind)], [("y", FLOAT, (1, 3))])


def test_a_map_is_an_object() -> None:
    adapter = adapter_of(of_map(TensorProto.STRING, op_type="DictVectorizer", string_vocabulary=["a", "b", "c"]))
    assert predictions(adapter, {"x": {"c": 3, "a": 1.5}}) == [[[1.5, 0, 3]]]
    assert predictions(adapter, {"instances": [{"x": {"b": 1}}]}) == [[[0, 1, 0]]]
    assert output(ask(adapter, v2(x=("BYTES", [1], ['{"b": 2}'])))) == ("FP32", [1, 3], [0, 2, 0])
    assert ask(adapter, {"x": {"a": "b"}}).json["key"] == "a"
    assert ask(adapter, {"x": [1, 2]}).json["code"] == "wrong_shape"
    assert ask(adapter, {"x": {}}).status == 422
    assert ask(adapter, adapter.samples()[0]).status == 200


def test_the_keys_of_a_map_may_be_numbers() -> None:
    adapter = adapter_of(of_map(TensorProto.INT64, op_type="CastMap", map_form="SPARSE", max_map=3))
    assert predictions(adapter, {"x": {"2": 7}}) == [[[0, 0, 7]]]
    assert ask(adapter, {"x": {"two": 7}}).json["code"] == "wrong_shape"


def test_maps_come_out_one_a_row_and_in_v2_as_json() -> None:
    zipped = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, ()))
    )
    adapter = adapter_of(graph([zipped], [("x", FLOAT, ("n", 2))], [helper.make_value_info("y", kind)]))
    assert adapter.joinable
    assert adapter.signature()["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [-1], "choices": []}]
    replies = ask_all(Batcher(adapter), [[[0.25, 0.75]], {"features": [[1, None], [0, 1]]}])
    assert [reply.json["predictions"] for reply in replies] == [
        [{"no": 0.25, "yes": 0.75}],
        [{"no": 1, "yes": None}, {"no": 0, "yes": 1}],
    ]
    datatype, shape, data = output(ask(adapter, v2(x=("FP32", [2, 2], [0.25, 0.75, 1, 0]))))
    assert (datatype, shape) == ("BYTES", [2])
    assert [json.loads(one) for one in data] == [{"no": 0.25, "yes": 0.75}, {"no": 1, "yes": 0}]


# Where it computes


def test_the_gpu_is_used_if_available_and_otherwise_the_cpu() -> None:
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    assert chosen_providers(["AzureExecutionProvider", cpu]) == [cpu]
    assert chosen_providers(["TensorrtExecutionProvider", cuda, cpu]) == [cuda, cpu]


def test_a_runtime_tells_on_what_and_on_how_many_threads_it_computes(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(same(FLOAT, ("n", 2)).SerializeToString())
    adapter = load_onnx(RuntimeConfig(str(path), "onnx", threads=2))
    assert adapter.execution() == {
        "execution_providers": ["CPUExecutionProvider"],
        "threads": 2,
        "joins_requests": True,
    }


def test_a_graph_error_goes_to_the_caller_and_not_to_the_log(capfd: Any) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    adapter = adapter_of(graph(nodes, [("a", FLOAT, ("n",)), ("b", FLOAT, (3,))], [("y", FLOAT, (None,))]))
    reply = ask(adapter, {"a": [1, 2], "b": [1, 2, 3]})
    assert (reply.status, reply.json["code"]) == (422, "prediction_failed")
    assert "Add node" in reply.json["detail"]
    assert "onnxruntime" not in capfd.readouterr().err
