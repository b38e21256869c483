"""The sample model that `./scripts/quickstart` deploys: both of its files say the same of every flower."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pandas as pd
from sklearn.datasets import load_iris

SAMPLE = Path(__file__).parents[2] / "model_store" / "samples" / "iris"


def flowers() -> pd.DataFrame:
    return pd.DataFrame(load_iris().data, columns=list(json.loads((SAMPLE / "sample.json").read_text())))


def test_the_pipeline_was_saved_by_the_locked_scikit_learn_and_knows_its_columns() -> None:
    model = joblib.load(SAMPLE / "iris.joblib")  # another version would warn, and warnings are errors here

    assert list(model.feature_names_in_) == list(flowers().columns)
    assert (model.predict(flowers()) == load_iris().target_names[load_iris().target]).mean() > 0.95


def test_the_onnx_sample_takes_the_same_columns_and_gives_the_same_labels() -> None:
    session = onnxruntime.InferenceSession(SAMPLE / "iris.onnx")
    columns = {name: values.to_numpy(np.float32).reshape(-1, 1) for name, values in flowers().items()}

    assert [one.name for one in session.get_inputs()] == list(columns)
    labels = session.run(["label"], columns)[0]
    assert list(labels) == list(joblib.load(SAMPLE / "iris.joblib").predict(flowers()))


def test_the_sample_is_a_setosa() -> None:
    row = pd.DataFrame([json.loads((SAMPLE / "sample.json").read_text())])

    assert list(joblib.load(SAMPLE / "iris.joblib").predict(row)) == ["setosa"]
