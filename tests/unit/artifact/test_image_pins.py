"""Which files get Pillow into the environment of their model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.artifact.inspection import inspect


def evidence(path: Path) -> str:
    """The reason for Pillow; "" where it is not needed."""
    return "".join(pin.evidence for pin in inspect(path, path.name).pins if pin.distribution == "pillow")


def fitted(columns: Any) -> Any:
    return make_pipeline(StandardScaler(), LinearRegression()).fit(
        pd.DataFrame([[0.0] * len(columns), [1.0] * len(columns)], columns=columns), [0, 1]
    )


@pytest.mark.parametrize("suffix", [".pkl", ".skops"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (range(64), "64 values"),
        ([f"pixel{index}" for index in range(64)], "64 values"),
        ([f"age{index}" for index in range(64)], ""),
        (range(4), ""),
        (range(65), ""),
    ],
)
def test_an_estimator_needs_pillow_if_its_columns_may_be_pixels(
    tmp_path: Path, columns: Any, words: str, suffix: str
) -> None:
    model = fitted(list(columns)) if isinstance(columns, list) else _without_names(len(columns))
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(model) if suffix == ".pkl" else skops.io.dumps(model))
    assert words in evidence(path)
    assert bool(words) == bool(evidence(path))


def _without_names(width: int) -> Any:
    return make_pipeline(StandardScaler(), LinearRegression()).fit([[0.0] * width, [1.0] * width], [0, 1])


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        (TensorProto.FLOAT, ["n", 3, 224, 224], "3 × 224 × 224"),
        (TensorProto.UINT8, [1, None, None, 3], "n × n × 3"),
        (TensorProto.FLOAT, ["n", 784], "784"),
        (TensorProto.FLOAT, ["n", 4], ""),
        (TensorProto.STRING, ["n", 784], ""),
        (TensorProto.FLOAT, None, ""),
    ],
)
def test_a_graph_needs_pillow_if_its_only_input_may_be_an_image(
    tmp_path: Path, kind: int, shape: Any, words: str
) -> None:
    ports = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    assert words in evidence(path)
    assert bool(words) == bool(evidence(path))
