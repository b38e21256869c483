"""Train the sample model and write it in both forms that PRISM serves: iris.joblib and iris.onnx.

Run from a checkout whose environment has the dev group (`./scripts/setup dev`):

    .venv/bin/python model_store/samples/iris/train.py [FOLDER]     (default: beside this file)
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]  # of the flower, in cm


def train() -> Pipeline:
    """A pipeline from four named columns to the name of a species. Deterministic: no step draws random numbers."""
    iris = load_iris()
    flowers = pd.DataFrame(iris.data, columns=COLUMNS)
    species = iris.target_names[iris.target].astype(object)  # plain strings, not numpy's fixed-width ones
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(flowers, species)


def main(folder: Path) -> None:
    model = train()
    joblib.dump(model, folder / "iris.joblib", compress=("zlib", 6))
    # One input for each column, so that the ONNX twin is called with the same JSON as the pipeline.
    inputs = [(column, FloatTensorType([None, 1])) for column in COLUMNS]
    onnx = to_onnx(model, initial_types=inputs, options={"zipmap": False}, target_opset=18)
    (folder / "iris.onnx").write_bytes(onnx.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
