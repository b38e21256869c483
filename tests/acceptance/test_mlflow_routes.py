"""The routes of MLflow's scoring server, by MLflow's own client."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.acceptance.conftest import StartServer
from tests.acceptance.served import TARGETS, serving
from tests.acceptance.server import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

FRAME = pd.DataFrame({"age": [22.0, 38, np.nan, 35], "port": ["S", "C", "S", "Q"], "fare": [7.25, 71.3, 7.9, 53.1]})


@pytest.fixture(scope="module")
def titanic() -> Any:
    """A pipeline that takes columns of numbers, some missing, and of strings."""
    columns = make_column_transformer((SimpleImputer(), ["age", "fare"]), (OneHotEncoder(), ["port"]))
    return make_pipeline(columns, LogisticRegression()).fit(pd.concat([FRAME] * 5), ["no", "yes", "no", "yes"] * 5)


@pytest.fixture(scope="module", params=TARGETS)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    environments: Path,
    titanic: Any,
) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("models") / "titanic.joblib"
    joblib.dump(titanic, file)
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET=request.param) as server:
        server.deploy(file)
        yield server


@pytest.fixture
def client(server: Server) -> ScoringServerClient:
    return ScoringServerClient("127.0.0.1", server.port)


def test_a_dataframe_is_answered_as_the_model_answers_it(client: ScoringServerClient, titanic: Any) -> None:
    """It has a missing value, which the client writes NaN."""
    client.wait_server_ready(timeout=10)
    wanted = titanic.predict(FRAME).tolist()
    assert client.invoke(FRAME).get_predictions()[0].tolist() == wanted
    assert client.invoke(FRAME[["fare", "port", "age"]], params={"any": 1}).get_predictions()[0].tolist() == wanted


def test_all_forms_of_its_json_are_answered_alike(server: Server, client: ScoringServerClient, titanic: Any) -> None:
    frame = FRAME.fillna(30.0)
    wanted = titanic.predict(frame).tolist()
    forms = [
        {"dataframe_split": frame.to_dict(orient="split")},
        {"dataframe_records": frame.to_dict(orient="records")},
        {"instances": frame.to_dict(orient="records")},
        {"inputs": frame.to_dict(orient="list")},
    ]
    for form in forms:
        answer = server.http.post("/invocations", json=form)
        assert answer.json() == {"predictions": wanted}, form
        assert client.invoke(json.dumps(form)).get_predictions()[0].tolist() == wanted
        assert server.http.post("/models/titanic/invocations", json=form).json() == {"predictions": wanted}


@pytest.mark.parametrize("index", [True, False])
def test_a_table_as_text_is_answered_as_the_dataframe(server: Server, titanic: Any, index: bool) -> None:
    answer = requests.post(
        f"{server.url}/invocations", data=FRAME.to_csv(index=index), headers={"Content-Type": "text/csv"}, timeout=60
    )
    assert answer.json() == {"predictions": titanic.predict(FRAME).tolist()}


def test_the_client_learns_version_and_health(client: ScoringServerClient) -> None:
    client.ping()
    assert client.get_version()


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"inputs": {"age": [1], "port": ["S"]}}, 422, "INVALID_PARAMETER_VALUE", "fare"),
        ({"rows": [[1]]}, 422, "INVALID_PARAMETER_VALUE", "dataframe_split"),
        ({"inputs": [], "instances": []}, 422, "INVALID_PARAMETER_VALUE", "only one"),
    ],
)
def test_errors_have_the_form_of_its_server(server: Server, body: object, status: int, code: str, words: str) -> None:
    answer = server.http.post("/invocations", json=body)
    assert answer.status_code == status
    assert answer.json()["error_code"] == code
    assert words in answer.json()["message"]


def test_arrays_are_answered_and_a_second_model_must_be_named(
    start_server: StartServer, iris_file: Path, titanic: Any, tmp_path: Path
) -> None:
    joblib.dump(titanic, tmp_path / "titanic.joblib")
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    server.deploy(iris_file, model_name="iris")
    client = ScoringServerClient("127.0.0.1", server.port)
    rows = load_iris().data[::50]
    wanted = ["setosa", "versicolor", "virginica"]
    assert client.invoke(rows).get_predictions()[0].tolist() == wanted
    assert client.invoke(rows.tolist()).get_predictions()[0].tolist() == wanted
    server.deploy(tmp_path / "titanic.joblib")
    with pytest.raises(Exception, match=r"error code 400.*/models/iris/invocations"):
        client.invoke(rows)
    assert server.http.post("/models/iris/invocations", json={"inputs": rows.tolist()}).json() == {
        "predictions": wanted
    }
