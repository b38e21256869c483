"""ONNX files are read without onnx, whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

from app.artifact.formats.onnx import OnnxReading, read_onnx
from app.artifact.formats.onnx_size import FUNCTIONS_MAX, NODES_MAX, OnnxSize, TooLargeError
from app.errors import UnreadableArtifact


def graph_model(*, body: onnx.GraphProto | None = None) -> onnx.ModelProto:
    """y = x + w, and with `body` a branch of an If beside it."""
    weights = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    if body is not None:
        nodes.append(helper.make_node("If", ["condition"], ["z"], then_branch=body, else_branch=body))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "adding",
        [value("x", TensorProto.FLOAT, ["n", 4]), value("w", TensorProto.FLOAT, [4])],
        [value("y", TensorProto.FLOAT, ["n", 4])],
        [weights],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=imports, producer_name="a-writer", producer_version="1.2")
    model.ir_version = 8
    return model


def branch(tensor: TensorProto) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])
    return helper.make_graph([helper.make_node("Identity", ["inner"], ["b"])], "branch", [], [output], [tensor])


def external(name: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def read(path: Path, content: bytes) -> OnnxReading | None:
    path.write_bytes(content)
    return read_onnx(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


def test_metadata_of_the_file_are_shown(file: Path) -> None:
    assert read(file, graph_model().SerializeToString()) == OnnxReading(
        ir_version=8,
        producer="a-writer 1.2",
        opsets={"ai.onnx": 17, "ai.onnx.ml": 3},
        inputs=("x",),  # not the initializer "w", though older writers list it among the inputs
        outputs=("y",),
        ports=(("x", "FP32", (-1, 4)),),
    )


def test_a_converted_forest_is_read(file: Path) -> None:
    x, y = make_classification(200, 8, random_state=0)
    forest = RandomForestClassifier(20, random_state=0).fit(x, y)
    model = to_onnx(forest, x[:1].astype(np.float32), options={"zipmap": False})
    reading = read(file, model.SerializeToString())
    assert reading is not None
    assert reading.inputs == tuple(value.name for value in model.graph.input)
    assert reading.outputs == ("label", "probabilities")
    assert reading.opsets["ai.onnx.ml"] == next(o.version for o in model.opset_import if o.domain == "ai.onnx.ml")


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html></html>", b'{"a": 1}', b"\x80\x04N.", b"PK\x03\x04 zip", b"\x08", b"\x08\x08", b"\n\n\n\n"],
)
def test_other_files_are_not_taken_for_onnx(content: bytes, file: Path) -> None:
    assert read(file, content) is None


def test_a_truncated_file_is_rejected_or_not_recognised_as_onnx(file: Path) -> None:
    model = graph_model()
    model.graph.node[0].attribute.append(helper.make_attribute("floats", [0.5] * 20))
    model.graph.node[0].attribute.append(helper.make_attribute("ints", [-1, 1 << 40] * 20))
    whole = model.SerializeToString()
    opsets = sum(len(opset.SerializeToString()) + 2 for opset in model.opset_import)
    for length in range(1, len(whole)):
        file.write_bytes(whole[:length])
        if length < 3:
            assert read_onnx(file) is None
        elif length == len(whole) - opsets + len(model.opset_import[0].SerializeToString()) + 2:
            assert read_onnx(file) is not None  # only an opset that no operator uses is lost
        else:
            with pytest.raises(UnreadableArtifact, match=r"byte \d+ of \d+"):
                read_onnx(file)


def test_an_operator_without_its_opset_is_refused(file: Path) -> None:
    model = graph_model()
    model.graph.node[0].domain = "com.example"
    with pytest.raises(UnreadableArtifact, match=r"com\.example"):
        read(file, model.SerializeToString())


def test_weights_in_another_file_are_refused(file: Path) -> None:
    model = graph_model()
    model.graph.initializer[0].CopyFrom(external("w"))
    with pytest.raises(UnreadableArtifact) as caught:
        read(file, model.SerializeToString())
    assert "save_as_external_data=False" in caught.value.hint


def test_weights_in_another_file_are_found_in_branches_too(file: Path) -> None:
    inside = numpy_helper.from_array(np.zeros(4, np.float32), "inner")
    assert read(file, graph_model(body=branch(inside)).SerializeToString())
    with pytest.raises(UnreadableArtifact, match="external data"):
        read(file, graph_model(body=branch(external("inner"))).SerializeToString())


def test_endless_nesting_is_refused(file: Path) -> None:
    graph = branch(numpy_helper.from_array(np.zeros(4, np.float32), "inner"))
    for _ in range(25):
        outer = helper.make_graph([], "outer", [], [])
        outer.node.append(helper.make_node("If", ["c"], ["z"], then_branch=graph))
        graph = outer
    with pytest.raises(UnreadableArtifact, match="nested"):
        read(file, graph_model(body=graph).SerializeToString())


@settings(max_examples=300, deadline=None)
@given(change=st.tuples(st.integers(0, 10_000), st.integers(1, 255)), tail=st.binary(max_size=8))
def test_damage_raises_no_other_error(
    change: tuple[int, int], tail: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(graph_model().SerializeToString() + tail)
    content[change[0] % len(content)] ^= change[1]
    file = tmp_path_factory.getbasetemp() / "damaged"
    with contextlib.suppress(UnreadableArtifact):
        read(file, bytes(content))


def calling(calls: dict[str, list[str]], main: str = "f0", nodes: int = 1) -> bytes:
    """A model whose functions call each other so."""
    model = graph_model()
    model.graph.node.extend([helper.make_node(main, ["x"], ["z"], domain="mine")] * nodes)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    for name, called in calls.items():
        body = [helper.make_node(one, ["a"], ["b"], domain="mine" if one in calls else "") for one in called]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        model.functions.append(helper.make_function("mine", name, ["a"], ["b"], body, imports))
    return bytes(model.SerializeToString())


def test_functions_that_call_each_other_are_read(file: Path) -> None:
    assert read(file, calling({"f0": ["f1", "f1"], "f1": ["Relu", "Relu"]}, nodes=3)) is not None


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ({f"f{n}": [f"f{n + 1}"] * 10 if n < 6 else ["Relu"] for n in range(7)}, "more than 1000000 nodes"),
        ({f"f{n}": [f"f{n + 1}"] if n < 64 else ["Relu"] for n in range(65)}, "more than 64 deep"),
        ({"f0": ["f1"], "f1": ["Relu", "f0"]}, "calls itself"),
    ],
)
def test_functions_that_grow_without_end_are_refused(file: Path, calls: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(UnreadableArtifact, match=reason) as caught:
        read(file, calling(calls, nodes=2))
    assert "inliner" in caught.value.hint


def test_the_length_of_names_is_limited(file: Path) -> None:
    model = graph_model()
    model.graph.node[0].name = "n" * 8193
    with pytest.raises(UnreadableArtifact, match="a name of 8193 bytes, but at most 8192"):
        read(file, model.SerializeToString())


def test_the_numbers_of_nodes_and_functions_are_limited() -> None:
    size = OnnxSize()
    for _ in range(NODES_MAX):
        size.node(("", "Relu", ""))
    with pytest.raises(TooLargeError, match=f"more than {NODES_MAX} nodes"):
        size.node(("", "Relu", ""))
    for number in range(FUNCTIONS_MAX):
        size.begin_function()
        size.end_function(("mine", str(number), ""))
    with pytest.raises(TooLargeError, match=f"more than {FUNCTIONS_MAX} functions"):
        size.end_function(("mine", "one more", ""))
