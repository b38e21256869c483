"""A booster's columns go by its own names for them, as an estimator's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest

from model_container.adapters import load
from model_container.adapters.base import Adapter
from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.library_shims import adapt
from model_container.contract.config import PredictContract, RuntimeConfig
from tests.unit.model_container.asking import ask, predictions

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"size": RNG.random(80), "age": RNG.random(80), "kind": pd.Categorical(["w", "x", "y", "z"] * 20)})
GOAL = FRAME["size"] * 2 - FRAME["age"] + FRAME["kind"].isin(["x", "z"])
EAGER = {"verbose": -1, "min_data_in_leaf": 2, "min_data_per_group": 1, "cat_smooth": 0}


def served(folder: Path, booster: Any) -> Adapter:
    joblib.dump(booster, folder / "m.joblib")
    return load(RuntimeConfig(str(folder / "m.joblib"), "joblib"))


def test_a_booster_of_lightgbm_is_asked_by_name_in_any_order(tmp_path: Path) -> None:
    frame = FRAME[["size", "age"]]
    booster = lightgbm.train(EAGER, lightgbm.Dataset(frame, GOAL), 10)
    adapter = served(tmp_path, booster)
    wanted = booster.predict(frame[:5])
    records = frame[:5].to_dict("records")
    assert predictions(adapter, {"dataframe_records": records}) == pytest.approx(wanted)
    turned = [{"age": row["age"], "size": row["size"]} for row in records]
    assert predictions(adapter, {"dataframe_records": turned}) == pytest.approx(wanted)
    assert ask(adapter, {"age": 1, "width": 1}).json["code"] == "wrong_columns"
    assert [one["name"] for one in adapter.signature()["inputs"]] == ["size", "age"]


def test_a_booster_of_lightgbm_knows_its_categories(tmp_path: Path) -> None:
    booster = lightgbm.train(EAGER, lightgbm.Dataset(FRAME, GOAL), 10)
    adapter = served(tmp_path, booster)
    assert adapter.signature()["inputs"][2]["choices"] == ["w", "x", "y", "z"]
    rows = FRAME[:4].astype({"kind": str}).to_dict("records")
    assert predictions(adapter, {"dataframe_records": rows}) == pytest.approx(booster.predict(FRAME[:4]))


def test_a_booster_trained_on_an_array_says_how_wide_it_was(tmp_path: Path) -> None:
    matrix = RNG.random((40, 3))
    booster = lightgbm.train(EAGER, lightgbm.Dataset(matrix, matrix[:, 0]), 5)
    adapter = served(tmp_path, booster)
    assert predictions(adapter, matrix[:3].tolist()) == pytest.approx(booster.predict(matrix[:3]))
    assert ask(adapter, [[1, 2]]).json["code"] == "wrong_width"


class CatBoostRegressor:
    """A model with the interface of CatBoost's, which refuses numbers with a point as categories as that does."""

    __module__ = "catboost.core"
    feature_names_ = ("amount", "note", "plan")

    def get_cat_feature_indices(self) -> list[int]:
        return [2]

    def get_text_feature_indices(self) -> list[int]:
        return [1]

    def get_embedding_feature_indices(self) -> list[int]:
        return []

    def predict(self, frame: Any) -> Any:
        assert frame["amount"].dtype == float
        assert all(isinstance(note, str) for note in frame["note"])
        if frame["plan"].dtype.kind == "f":
            raise TypeError("cat_features must be integer or string")
        return frame["plan"].map(lambda plan: float(str(plan) == "1")).to_numpy()


def test_catboost_takes_categories_as_texts_and_whole_numbers() -> None:
    adapter = EstimatorAdapter(adapt(CatBoostRegressor()), PredictContract())
    assert [one["datatype"] for one in adapter.signature()["inputs"]] == ["FP64", "BYTES", "ANY"]
    sample, *_ = adapter.samples()
    assert predictions(adapter, sample) == [0.0]
    for plan in (1, "1"):
        assert predictions(adapter, {"amount": 3, "note": "x", "plan": plan}) == [1.0]
