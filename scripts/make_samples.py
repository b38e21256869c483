"""Make the sample models of model_store/: small pickles, a skops file and an ONNX file.

model_store/README.md says what each of them answers.

    .venv/bin/python scripts/make_samples.py [FOLDER]          (default: model_store/)

Needs the dev group (`./scripts/setup dev`). The same locked libraries make the same bytes each time, except for the
.skops file: skops writes the time and addresses in memory into it.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

FOLDER = Path(__file__).resolve().parent.parent / "model_store"


def linear_regression() -> LinearRegression:
    """Fit y = 2 · feature1 + 1."""
    frame = pd.DataFrame({"feature1": np.linspace(0, 1, 11)})
    return LinearRegression().fit(frame, 2 * frame["feature1"] + 1)


def decision_tree() -> DecisionTreeClassifier:
    """Fit the approval of a loan: granted where the income is more than 30 and less than half of it is owed."""
    incomes, debts = np.meshgrid(np.arange(5.0, 100, 10), np.arange(0.0, 100, 10))
    frame = pd.DataFrame({"income": incomes.ravel(), "debt": debts.ravel()})
    granted = (frame["income"] > 30) & (frame["debt"] < frame["income"] / 2)
    return DecisionTreeClassifier(max_depth=4, random_state=0).fit(frame, np.where(granted, "granted", "refused"))


def random_forest() -> RandomForestRegressor:
    """Fit the rent of a flat by its area and number of rooms, with ten shallow trees."""
    areas, rooms = np.meshgrid(np.arange(20, 121, 10), np.arange(1, 6))
    frame = pd.DataFrame({"area_m2": areas.ravel(), "rooms": rooms.ravel()})
    return RandomForestRegressor(10, max_depth=4, random_state=0).fit(
        frame, 10 * frame["area_m2"] + 50 * frame["rooms"]
    )


def pipeline() -> Pipeline:
    """Fit whether a payment is fraud by a column of numbers and a column of text."""
    frame = pd.DataFrame({"amount": [10.0, 900, 20, 800, 15, 950], "country": ["NO", "SE", "DK", "NO", "SE", "DK"]})
    columns = make_column_transformer((StandardScaler(), ["amount"]), (OneHotEncoder(), ["country"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame, np.array(["fine", "fraud"] * 3))


def main(folder: Path) -> None:
    regression = linear_regression()
    (folder / "linear_regression.pkl").write_bytes(pickle.dumps(regression))
    (folder / "decision_tree.pickle").write_bytes(pickle.dumps(decision_tree()))
    joblib.dump(random_forest(), folder / "random_forest.joblib", compress=("zlib", 6))
    skops.io.dump(pipeline(), folder / "pipeline.skops", compression=zipfile.ZIP_DEFLATED)
    onnx = to_onnx(regression, initial_types=[("feature1", FloatTensorType([None, 1]))], target_opset=18)
    (folder / "linear_regression.onnx").write_bytes(onnx.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
