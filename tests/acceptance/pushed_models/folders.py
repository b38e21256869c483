"""Folders: of MLflow, and of a `model.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LinearRegression

from tests.acceptance.pushed_models.kinds import Made, by_names, makes

TARIFF = """import json
from pathlib import Path


class Model:
    sample = {"features": [{"city": "oslo", "km": 1}]}

    def load(self, folder):
        self.rates = json.loads((Path(folder) / "rates.json").read_text())

    def predict(self, rows):
        return [self.rates[row["city"]] * row["km"] for row in rows]
"""
GREETER = """import mlflow
from mlflow.models import set_model


class Greeter(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return ["Hello " + name for name in model_input["name"]]


set_model(Greeter())
"""


@makes("tariff")
def tariff() -> Made:
    Path("tariff").mkdir()
    Path("tariff/model.py").write_text(TARIFF)
    Path("tariff/rates.json").write_text(json.dumps({"oslo": 2.5}))
    return Made({}, lambda sent: [2.5 * row["km"] for row in sent["features"]])


@makes("credit")
def credit() -> Made:
    rows = pd.DataFrame({"income": [1.0, 2, 3, 4], "debt": [4.0, 1, 3, 2]})
    model = LinearRegression().fit(rows, rows["income"] * 2 - rows["debt"])
    return Made({"model": model, "rows": rows}, by_names(model))


@makes("greeter")
def greeter() -> Made:
    Path("greeter.py").write_text(GREETER)
    return Made({"rows": pd.DataFrame({"name": ["Ada"]})}, lambda sent: [f"Hello {sent['name']}"])
