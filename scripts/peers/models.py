"""The two models that all peers serve, the rows they are asked, and what is right. Deterministic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import make_regression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

COLUMNS = 10
ROWS = 500
MODELS = ("linear", "forest")


class Sample(NamedTuple):
    """A trained model and its twin in ONNX. rows: (500, 10) 32-bit floats; expected: the model's own predictions.

    Regressors, because a number that differs for every row shows a mixed-up batch where a class would not.
    """

    name: str
    estimator: Any
    onnx: bytes
    rows: np.ndarray
    expected: np.ndarray


def train(name: str) -> Sample:
    features, target = make_regression(n_samples=2000, n_features=COLUMNS, noise=5.0, random_state=7)
    estimator = LinearRegression() if name == "linear" else RandomForestRegressor(n_estimators=100, random_state=7)
    estimator.fit(features, target)
    # 32-bit floats with few digits, so that ONNX and JSON see the very same numbers as scikit-learn.
    rows = np.round(np.random.default_rng(7).normal(size=(ROWS, COLUMNS)), 3).astype(np.float32)
    twin = to_onnx(estimator, initial_types=[("features", FloatTensorType([None, COLUMNS]))], target_opset=18)
    return Sample(name, estimator, twin.SerializeToString(), rows, estimator.predict(rows.astype(np.float64)))


def write(sample: Sample, folder: Path) -> None:
    joblib.dump(sample.estimator, folder / "model.joblib")
    (folder / "model.onnx").write_bytes(sample.onnx)


def plain(rows: np.ndarray) -> list[list[float]]:
    """Return the rows as a request writes them: 0.123, not the 32-bit float's 0.12300000339746475."""
    return [[round(value, 3) for value in row] for row in rows.tolist()]


def is_right(prediction: float, expected: float) -> bool:
    """ONNX sums 32-bit floats, hence the tolerance: 1e-4 of predictions whose spread is in the hundreds."""
    return bool(abs(prediction - expected) <= 1e-4 * max(1.0, abs(expected)))
