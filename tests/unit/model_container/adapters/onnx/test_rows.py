"""Rows of several requests go through one call only where that changes no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from model_container.adapters.onnx.adapter import OnnxAdapter
from model_container.batch import Batcher
from model_container.contract.frames import FORM_PROBLEM
from tests.unit.model_container.asking import Reply, ask, ask_all
from tests.unit.model_container.graphs import FLOAT, adapter_of, graph

WIDTH = 4
Step = Callable[[str, str], list[Any]]
"""Nodes from the value of the first name to that of the second."""

CONSTANTS = [
    numpy_helper.from_array(np.linspace(-1, 1, WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH), "weights"),
    numpy_helper.from_array(np.linspace(-2, 2, WIDTH, dtype=np.float32), "bias"),
    *(
        numpy_helper.from_array(np.array(value, dtype=np.int64), name)
        for name, value in {"zero": [0], "one": [1], "minus": [-1], "far": [-(2**60)], "pairs": [-1, 2]}.items()
    ),
    *(numpy_helper.from_array(np.array(axis, dtype=np.int64), f"axis{axis}") for axis in (0, 1)),
    numpy_helper.from_array(np.array(2, dtype=np.float32), "two"),
]


def node(kind: str, *inputs: str, **attributes: Any) -> Step:
    """The value comes before the inputs."""
    return lambda source, target: [helper.make_node(kind, [source, *inputs], [target], **attributes)]


def centred(axis: int) -> Step:
    return lambda source, target: [
        helper.make_node("ReduceMean", [source], [f"{target}_mean"], axes=[axis], keepdims=1),
        helper.make_node("Sub", [source, f"{target}_mean"], [target]),
    ]


def shifted(source: str, target: str) -> list[Any]:
    """Each row plus the one before it."""
    return [
        helper.make_node("Slice", [source, "zero", "minus", "zero"], [f"{target}_all_but_last"]),
        helper.make_node("Slice", [source, "zero", "one", "zero"], [f"{target}_first"]),
        helper.make_node("Concat", [f"{target}_first", f"{target}_all_but_last"], [f"{target}_before"], axis=0),
        helper.make_node("Add", [source, f"{target}_before"], [target]),
    ]


def quantised(source: str, target: str) -> list[Any]:
    """To eight bits and back, with a scale taken from all rows."""
    names = [f"{target}_{part}" for part in ("bits", "scale", "zero")]
    return [
        helper.make_node("DynamicQuantizeLinear", [source], names),
        helper.make_node("DequantizeLinear", names, [target]),
    ]


def centred_if_large(source: str, target: str) -> list[Any]:
    return [
        helper.make_node("ReduceMean", [source], [f"{target}_mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", [source, f"{target}_mean"], [f"{target}_centred"]),
        helper.make_node("Greater", [source, "two"], [f"{target}_large"]),
        helper.make_node("Where", [f"{target}_large", f"{target}_centred", source], [target]),
    ]


ROW_BY_ROW: dict[str, Step] = {
    "relu": node("Relu"),
    "add": node("Add", "bias"),
    "matmul": node("MatMul", "weights"),
    "softmax": node("Softmax", axis=1),
    "layer": centred(1),
    "cumulated": node("CumSum", "axis1"),
    "tanh": node("Tanh"),
}
MIXING: dict[str, Step] = {
    "softmax over rows": node("Softmax", axis=0),
    "batch mean": centred(0),
    "cumulated over rows": node("CumSum", "axis0"),
    "reversed": node("Slice", "minus", "far", "zero", "minus"),
    "row before": shifted,
    "quantised": quantised,
    "centred if large": centred_if_large,
}


def chained(names: list[str]) -> ModelProto:
    steps = [{**ROW_BY_ROW, **MIXING}[name] for name in names] or [node("Identity")]
    values = ["x", *(f"v{index}" for index in range(1, len(steps))), "y"]
    nodes = [
        one for step, source, target in zip(steps, values, values[1:], strict=False) for one in step(source, target)
    ]
    used = {name for one in nodes for name in one.input}
    constants = [one for one in CONSTANTS if one.name in used]
    return graph(nodes, [("x", FLOAT, ("n", WIDTH))], [("y", FLOAT, ("n", WIDTH))], constants)


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_graph_that_answers_row_by_row_is_joined(name: str) -> None:
    assert adapter_of(chained([name])).joinable


@pytest.mark.parametrize("name", MIXING)
def test_a_graph_whose_rows_depend_on_each_other_is_never_joined(name: str) -> None:
    adapter = adapter_of(chained(["add", name]))
    assert not adapter.joinable
    assert len(ask(adapter, {"features": [[0, 1, 2, 3]] * 3}).json["predictions"]) == 3


numbers = st.floats(-100, 100, width=32)
rows = st.lists(st.lists(numbers, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=3)
bad = st.sampled_from(
    [b"", b"{", {"features": [["a", 1, 1, 1]]}, {"features": [[1]]}, {"z": 1}, {"features": [[1e39] * 4]}]
)
bodies = st.lists(st.one_of(rows.map(lambda some: {"features": some}), bad), min_size=1, max_size=10)
# What mixes rows for some numbers alone can be hidden by the steps behind it: trying a graph out is evidence, no proof.
always = [name for name in MIXING if name != "centred if large"]
chains = st.lists(st.sampled_from([*ROW_BY_ROW, *always]), max_size=3)


def assert_batched_equals_unbatched(adapter: OnnxAdapter, asked: list[Any]) -> None:
    """Equal, but for the last bits: BLAS multiplies one row by another routine than many."""
    batched = ask_all(Batcher(adapter), asked)
    for one, other in zip(batched, [ask(Batcher(adapter), body) for body in asked], strict=True):
        assert (one.status, one.form) == (other.status, other.form)
        if one.form == FORM_PROBLEM:
            assert one == other
        else:
            assert_near(one, other)


def assert_near(one: Reply, other: Reply) -> None:
    mine, theirs = (np.array(reply.json["predictions"], dtype=float) for reply in (one, other))
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * max(1, np.nanmax(np.abs(theirs), initial=0)))


@settings(max_examples=80, deadline=None)
@given(names=chains, asked=bodies)
def test_batched_equals_unbatched_for_generated_graphs(names: list[str], asked: list[Any]) -> None:
    assert_batched_equals_unbatched(adapter_of(chained(names)), asked)


def two_inputs(kind: str, second: tuple[Any, ...], output: tuple[Any, ...], **attributes: Any) -> OnnxAdapter:
    nodes = [helper.make_node(kind, ["a", "b"], ["y"], **attributes)]
    element = TensorProto.INT64 if kind == "Gather" else FLOAT
    return adapter_of(graph(nodes, [("a", FLOAT, ("n", 3)), ("b", element, second)], [("y", FLOAT, output)]))


def test_inputs_that_are_no_rows_are_never_joined() -> None:
    """Each has a first dimension of any size, and means something else by it."""
    product = two_inputs("Einsum", ("m", 3), ("n", "m"), equation="ik,jk->ij")
    looked_up = two_inputs("Gather", ("m",), ("m", 3))
    assert not product.joinable
    assert not looked_up.joinable
    one, other = [[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]
    for adapter, second in ((product, one), (looked_up, [1, 0])):
        replies = ask_all(Batcher(adapter), [{"a": one, "b": second}, {"a": other, "b": second}])
        assert replies == [ask(adapter, {"a": one, "b": second}), ask(adapter, {"a": other, "b": second})]
        assert [reply.status for reply in replies] == [200, 200]
    assert two_inputs("Add", ("m", 3), ("k", 3)).joinable


def test_inputs_that_are_no_rows_may_differ_in_length() -> None:
    adapter = two_inputs("Gather", ("m",), ("m", 3))
    reply = ask(adapter, {"inputs": {"a": [[1, 2, 3], [4, 5, 6]], "b": [1, 1, 0]}})
    assert reply.json["predictions"] == [[[4, 5, 6], [4, 5, 6], [1, 2, 3]]]


def test_an_output_of_arbitrary_length_belongs_to_the_whole_request() -> None:
    model = graph([helper.make_node("Unique", ["x"], ["y"])], [("x", FLOAT, (None,))], [("y", FLOAT, (None,))])
    replies = ask_all(Batcher(adapter_of(model)), [{"inputs": {"x": some}} for some in ([3, 1, 3], [2, 1], [5])])
    assert [reply.json["predictions"] for reply in replies] == [[[1, 3]], [[1, 2]], [[5]]]


def kept_above(limit: float) -> ModelProto:
    """Leaves out the rows whose sum is not above the limit."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "one"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "limit"], ["kept"]),
        helper.make_node("Compress", ["x", "kept"], ["y"], axis=0),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        numpy_helper.from_array(np.array(limit, dtype=np.float32), "limit"),
    ]
    return graph(nodes, [("x", FLOAT, ("n", 2))], [("y", FLOAT, ("n", 2))], constants)


def test_an_output_of_the_wrong_length_fails_its_own_request_only(capsys: Any) -> None:
    asked: list[Any] = [{"features": [[index, 1]]} for index in range(32)]
    asked[13] = {"features": [[-1e6, 0]]}
    adapter = adapter_of(kept_above(-1e5))
    assert adapter.joinable
    replies = ask_all(Batcher(adapter), asked)
    assert [reply.status for reply in replies] == [200] * 13 + [500] + [200] * 18
    assert replies[13].json["code"] == "wrong_output_length"
    assert replies[31].json["predictions"] == [[31, 1]]
    assert "no longer joined" in capsys.readouterr().err


def test_one_bad_request_among_32_fails_alone() -> None:
    asked: list[Any] = [{"features": [[index] * WIDTH]} for index in range(32)]
    asked[7] = {"features": [["x"] * WIDTH]}
    asked[21] = b"not json"
    replies = ask_all(Batcher(adapter_of(chained(["relu"]))), asked)
    assert [index for index, reply in enumerate(replies) if reply.status != 200] == [7, 21]


def test_one_request_that_only_the_graph_refuses_fails_alone() -> None:
    """An index that is out of bounds."""
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(10, 2), "table")
    model = graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [("x", TensorProto.INT64, ("n", 1))],
        [("y", FLOAT, ("n", 1, 2))],
        [table],
    )
    adapter = adapter_of(model)
    assert adapter.joinable
    asked: list[Any] = [{"x": index % 10} for index in range(32)]
    asked[30] = {"x": 10}
    replies = ask_all(Batcher(adapter), asked)
    assert [reply.status for reply in replies] == [200] * 30 + [422, 200]
    assert "out of data bounds" in replies[30].json["detail"]
    assert replies[31].json["predictions"] == [[[2, 3]]]


def test_inner_dimensions_of_any_size_are_tried_until_one_fits() -> None:
    """A convolution of 7 × 7 needs room; its sample has it."""
    kernel = numpy_helper.from_array(np.full((1, 1, 7, 7), 0.1, dtype=np.float32), "kernel")
    model = graph(
        [helper.make_node("Conv", ["x", "kernel"], ["y"])],
        [("x", FLOAT, ("n", 1, "height", "width"))],
        [("y", FLOAT, ("n", 1, "h", "w"))],
        [kernel],
    )
    adapter = adapter_of(model)
    assert adapter.joinable
    assert np.array(adapter.samples()[0]["inputs"]["x"]).shape == (1, 1, 32, 32)
    assert ask(adapter, adapter.samples()[0]).status == 200


def test_a_graph_that_cannot_be_probed_is_not_joined() -> None:
    """It takes rows of 17 values, but does not say so."""
    shape = numpy_helper.from_array(np.array([-1, 17], dtype=np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    adapter = adapter_of(graph(nodes, [("x", FLOAT, ("n", "k"))], [("y", FLOAT, (None, 17))], [shape]))
    assert not adapter.joinable
    asked = [{"inputs": {"x": [[index] * 17] * 2}} for index in range(3)]
    assert [reply.json["predictions"] for reply in ask_all(Batcher(adapter), asked)] == [
        [[index] * 17] * 2 for index in range(3)
    ]
