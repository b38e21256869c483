"""ONNX models that return what they are given."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto, helper

from tests.unit.model_container.graphs import graph


def same(kind: int, shape: Any) -> ModelProto:
    return graph([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])
