"""One server a file of tests, on each target, for the clients that people have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.acceptance.server import Server

TARGETS = ["process", pytest.param("docker", marks=pytest.mark.docker)]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]])
SPECIES = ["setosa", "virginica"]


@contextmanager
def serving(home: Path, environments: Path, **settings: object) -> Iterator[Server]:
    server = Server(home, environments, PRISM_SINGLE_ACTIVE_MODEL="false", **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def passing_graph(path: Path) -> Path:
    """An ONNX graph that answers each of its inputs as it is: texts, halves, whole numbers."""
    kinds = {"text": TensorProto.STRING, "half": TensorProto.FLOAT16, "count": TensorProto.INT64}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds]
    given = [helper.make_tensor_value_info(name, kind, ["n", 2]) for name, kind in kinds.items()]
    made = [helper.make_tensor_value_info(f"{name}_out", kind, ["n", 2]) for name, kind in kinds.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "passing", given, made), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    path.write_bytes(model.SerializeToString())
    return path


def bf16_graph(path: Path) -> Path:
    ports = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "bf16", ports[:1], ports[1:])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )
    return path
