"""Small ONNX graphs, and adapters that serve them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from model_container.adapters.onnx.adapter import OnnxAdapter, load_onnx
from model_container.contract.config import RuntimeConfig

Port = tuple[str, int, Sequence[int | str | None] | None]
FLOAT = TensorProto.FLOAT


def graph(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[TensorProto] = (), opset: int = 17
) -> ModelProto:
    """inputs, outputs: ports, or value infos for what is no tensor."""
    ports = [
        [helper.make_tensor_value_info(*port) if isinstance(port, tuple) else port for port in some]
        for some in (inputs, outputs)
    ]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph(nodes, "g", *ports, list(constants)), opset_imports=opsets, ir_version=9)


def adapter_of(model: ModelProto) -> OnnxAdapter:
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(model.SerializeToString())
        return load_onnx(RuntimeConfig(file.name, "onnx"))
