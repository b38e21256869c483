"""Models of XGBoost, LightGBM, CatBoost and statsmodels: trained where these are, served where PRISM installs them.

None of them is here; an environment of its own trains the models and says what they answer in memory. Those that people
push most are in the table of docs/formats.md, see test_what_people_push.py; here are boosters, models without names for
their columns, and folders of MLflow.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.runtime.packages.index import machine_index
from tests.acceptance.mlflow_lab import packed
from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server, problem, wait_for

pytestmark = pytest.mark.slow

PACKAGES = (
    "xgboost-cpu==3.2.0",
    "lightgbm",
    "catboost",
    "statsmodels",
    "scikit-learn",
    "joblib",
    "pandas",
    "mlflow-skinny",
    "skops",
)
CONVERTERS = ("onnxmltools", "skl2onnx", "onnx", "onnxruntime", "msgspec")
WITHOUT_GPU = "xgboost-cpu==3.2.0"
"""The same module in its small build."""

TRAIN = """
import json, pickle, sys, warnings
warnings.simplefilter("ignore")
import catboost, joblib, lightgbm, numpy as np, statsmodels.api as sm, xgboost
from sklearn.datasets import load_iris

x, y = load_iris(return_X_y=True, as_frame=True)
x.columns = ["sl", "sw", "pl", "pw"]
some, said = x.iloc[::30], {}
quiet = {"verbose": 0, "allow_writing_files": False, "iterations": 10}

def keep(name, model, answers, save=lambda model, path: joblib.dump(model, path)):
    save(model, name)
    said[name] = np.asarray(answers).tolist()

def pickled(model, path):
    pickle.dump(model, open(path, "wb"))

model = xgboost.XGBClassifier(n_estimators=10).fit(x, y)
keep("xgboost-classifier.joblib", model, model.predict(some))
said["probabilities"] = model.predict_proba(some).tolist()
model = xgboost.XGBRegressor(n_estimators=10).fit(x.to_numpy(), y)
keep("xgboost-regressor.pkl", model, model.predict(some.to_numpy()), pickled)
model = xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, label=y), 5)
keep("xgboost-booster.pkl", model, model.predict(xgboost.DMatrix(some)), pickled)
model = lightgbm.train({"verbose": -1}, lightgbm.Dataset(x, y), 5)
keep("lightgbm-booster.joblib", model, model.predict(some))
model = catboost.CatBoostRegressor(**quiet).fit(x.to_numpy()[:, :3], y)
keep("catboost-regressor.pkl", model, model.predict(some.to_numpy()[:, :3]), pickled)
model = sm.GLM((y > 0).to_numpy(), sm.add_constant(x.to_numpy()[:, :2]), family=sm.families.Binomial()).fit()
keep("statsmodels-glm.joblib", model, model.predict(sm.add_constant(some.to_numpy()[:, :2])))

import pandas as pd
from statsmodels.tsa.holtwinters import ExponentialSmoothing

months = pd.date_range("2020-01-01", periods=48, freq="MS")
sales = pd.Series(100 + np.arange(48) + 9 * np.sin(np.arange(48) * np.pi / 6), index=months, name="sales")
sales += np.random.default_rng(0).normal(size=48)
model = ExponentialSmoothing(sales, trend="add", seasonal="add", seasonal_periods=12).fit()
keep("forecast-smoothing.pkl", model, model.forecast(3), lambda model, path: model.save(path))

import os
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow.lightgbm, mlflow.statsmodels, mlflow.xgboost

def folder(flavor, name, model, answers, *needs):
    flavor.save_model(model, name, pip_requirements=["mlflow", "scikit-learn", "pandas", *needs], input_example=some.head(1))
    said[name] = np.asarray(answers).tolist()

model = xgboost.XGBClassifier(n_estimators=10).fit(x, y)
folder(mlflow.xgboost, "mlflow-xgboost", model, model.predict(some), "xgboost-cpu==3.2.0")
model = lightgbm.train({"verbose": -1}, lightgbm.Dataset(x, y), 5)
folder(mlflow.lightgbm, "mlflow-lightgbm-booster", model, model.predict(some), "lightgbm")
model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(x, y)
folder(mlflow.lightgbm, "mlflow-lightgbm", model, model.predict(some), "lightgbm", "skops")
joblib.dump(model, "lightgbm-classifier.joblib")
model = sm.OLS(y, x).fit()
folder(mlflow.statsmodels, "mlflow-statsmodels", model, model.predict(some), "statsmodels")
said["rows"] = some.to_numpy().tolist()
json.dump(said, open("said.json", "w"))
"""

NAMED = ("xgboost-booster.pkl", "lightgbm-booster.joblib")
"""Those that were trained on a data frame of the four columns."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with all of these libraries."""
    folder = tmp_path_factory.mktemp("libraries") / "environment"
    uv, environ = Path(sys.executable).with_name("uv"), machine_index().variables
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", folder / "bin/python", *PACKAGES, *CONVERTERS], env=environ, check=True
    )
    return folder / "bin/python"


@pytest.fixture(scope="module")
def trained(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run([python, "-W", "ignore", "-c", TRAIN], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def said(trained: Path) -> dict[str, Any]:
    """What each model answers in memory, and the rows to which."""
    found: dict[str, Any] = json.loads((trained / "said.json").read_text())
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Server]:
    settings = {"PRISM_TARGET": "process", "PRISM_START_TIMEOUT_SECONDS": 180}
    with serving(tmp_path_factory.mktemp("home"), environments, **settings) as server:
        yield server


def deployed(server: Server, file: Path, **fields: str) -> dict[str, Any]:
    if file.name.startswith("xgboost"):
        fields["requirements"] = WITHOUT_GPU
    return server.deploy(file, model_name=file.stem, **fields)


def matrix(name: str, rows: list[list[float]]) -> list[list[float]]:
    """The rows as the model was trained on them."""
    if name == "statsmodels-glm.joblib":
        return [[1.0, *row[:2]] for row in rows]
    return [row[:3] for row in rows] if name == "catboost-regressor.pkl" else rows


@pytest.mark.parametrize(
    "name",
    [
        "xgboost-regressor.pkl",
        "xgboost-booster.pkl",
        "lightgbm-booster.joblib",
        "catboost-regressor.pkl",
        "statsmodels-glm.joblib",
    ],
)
def test_it_answers_as_it_does_in_memory(server: Server, trained: Path, said: dict[str, Any], name: str) -> None:
    document = deployed(server, trained / name)
    packages = document["environment"]["packages"]
    assert not any(line.startswith("nvidia") for line in packages)
    rows = matrix(name, said["rows"])
    answer = server.predict(document["name"], {"features": rows})
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["predictions"], said[name], rtol=1e-6)
    assert [one["shape"] for one in document["signature"]["inputs"]] == [[-1]] * len(rows[0])
    if name in NAMED:
        assert [one["name"] for one in document["signature"]["inputs"]] == ["sl", "sw", "pl", "pw"]
        turned = [dict(reversed(list(zip(("sl", "sw", "pl", "pw"), row, strict=True)))) for row in rows]
        by_name = server.predict(document["name"], {"dataframe_records": turned})
        assert by_name.json()["predictions"] == answer.json()["predictions"], "columns go by name, not by their order"
        assert (
            problem(server.predict(document["name"], {"sl": 1, "sw": 1, "pl": 1, "width": 1}))["code"]
            == "wrong_columns"
        )


def test_a_forecast_of_simulated_paths_is_the_same_each_time_and_has_a_form(
    server: Server, trained: Path, said: dict[str, Any]
) -> None:
    document = deployed(server, trained / "forecast-smoothing.pkl")
    body = {"steps": 3}
    answer = server.predict(document["name"], body)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    assert [row["index"] for row in rows] == ["2024-01-01", "2024-02-01", "2024-03-01"]
    assert all(row["lower"] < row["mean"] < row["upper"] for row in rows)
    np.testing.assert_allclose([row["mean"] for row in rows], said["forecast-smoothing.pkl"], rtol=1e-6)
    assert server.predict(document["name"], body).json()["predictions"] == rows
    page = server.http.get("/predict", params={"model_id": document["model_id"]}).text
    assert re.search(r'<label for="field-0">steps</label>\s*<input [^>]*value="3"', page)
    assert problem(server.predict(document["name"], {"steps": 0}))["code"] == "number_out_of_range"


def test_probabilities_are_those_of_the_library(server: Server, trained: Path, said: dict[str, Any]) -> None:
    document = deployed(server, trained / "xgboost-classifier.joblib")
    answer = server.predict(document["name"], {"features": said["rows"]}, probabilities="true").json()
    np.testing.assert_allclose(answer["probabilities"], said["probabilities"], rtol=1e-6)
    assert answer["classes"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "served_as"),
    [
        ("mlflow-xgboost", "mlflow"),
        ("mlflow-lightgbm-booster", "mlflow"),
        ("mlflow-lightgbm", "skops"),
        ("mlflow-statsmodels", "pickle"),
    ],
)
def test_a_folder_of_an_mlflow_flavor_answers_as_the_library(
    server: Server, trained: Path, said: dict[str, Any], name: str, served_as: str
) -> None:
    document = server.deploy(packed(trained / name), model_name=name)
    assert document["inspection"]["format"] == served_as
    names = {line.partition("==")[0] for line in document["environment"]["packages"]}
    assert ("mlflow-skinny" in names) == (served_as == "mlflow")
    assert not any(one.startswith("nvidia") for one in names)
    frame = {"columns": ["pw", "pl", "sw", "sl"], "data": [row[::-1] for row in said["rows"]]}
    answer = server.http.post(f"/models/{name}/invocations", json={"dataframe_split": frame})
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["predictions"], said[name], rtol=1e-6)


def test_lightgbm_is_accelerated_and_answers_the_same(
    tmp_path_factory: pytest.TempPathFactory, environments: Path, trained: Path, said: dict[str, Any]
) -> None:
    settings = {"PRISM_TARGET": "process", "PRISM_ACCELERATE": "auto"}
    with serving(tmp_path_factory.mktemp("home"), environments, **settings) as server:
        server.deploy(trained / "lightgbm-classifier.joblib", model_name="boosted")
        before = server.predict("boosted", {"features": said["rows"]}).json()["predictions"]
        wait_for(lambda: settled(server, "boosted"), 240, "the acceleration")
        model = server.model("boosted")
        assert model["acceleration"]["status"] == "accelerated", model["acceleration"]
        assert model["replica"]["form"] == "accelerated"
        assert "lightgbm" not in model["runtime"]["libraries"]
        assert server.predict("boosted", {"features": said["rows"]}).json()["predictions"] == before
        assert before == said["mlflow-lightgbm"]


def settled(server: Server, name: str) -> bool:
    return server.model(name)["acceleration"]["status"] not in ("pending", "converting")


PROVE = """
import sys, warnings
warnings.simplefilter("ignore")
import joblib
from model_container.adapters.estimator import EstimatorAdapter
from model_container.conversion.convert import prove
judgement, content = prove(EstimatorAdapter(joblib.load(sys.argv[1])))
print(judgement.converter, judgement.rows_compared, len(content), judgement.reason)
"""


def test_xgboost_trained_on_named_columns_has_a_form_that_answers_the_same(python: Path, trained: Path) -> None:
    """The judge of the acceleration says so, with the libraries of a converter."""
    said = subprocess.run(
        [python, "-c", PROVE, str(trained / "xgboost-classifier.joblib")],
        env={"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    converter, _, rows, size, *reason = said.stdout.split()
    assert (converter, reason) == ("onnxmltools", [])
    assert int(rows) > 2000
    assert int(size) > 0
