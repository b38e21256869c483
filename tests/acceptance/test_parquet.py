"""Parquet as the body of a request, read in the model's sandbox by the pyarrow of its environment."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem
from tests.acceptance.torch_lab import run_with_packages

pytestmark = pytest.mark.slow

PARQUET = {"Content-Type": "application/vnd.apache.parquet"}
TABLE = {**PARQUET, "Accept": "text/csv"}
FRAME = pd.DataFrame(
    {"age": [41.5, None, 3.0, 8.0] * 4, "city": ["Oslo", "Rome", "007", "=1+1"] * 4, "member": [True, False] * 8}
)
WRITE = """if True:
    import sys, decimal, datetime, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
    folder, rows = sys.argv[1], 16
    frame = pd.read_csv(folder + "/frame.csv", dtype={"city": str})
    frame["city"] = frame["city"].astype("category")
    frame["id"] = [decimal.Decimal(row) / 4 for row in range(rows)]
    frame["when"] = pd.date_range("2024-01-01", periods=rows, tz="Europe/Oslo")
    frame["day"] = [datetime.date(2024, 1, 1)] * rows
    frame.index = range(5, 5 + rows)
    frame.to_parquet(folder + "/good.parquet")
    frame.drop(columns="city").assign(city=["Bern", *["Oslo"] * 15], age=["old", *["1"] * 15]).to_parquet(folder + "/bad.parquet")
    frame.assign(city=frame["city"].astype(str).where(frame.index != 8, "Bern")).to_parquet(folder + "/one.parquet")
    pq.write_table(pa.table({"age": [[1.0]], "city": ["Oslo"], "member": [True]}), folder + "/lists.parquet")
    pq.write_table(pa.table({"age": pa.array([], pa.float64())}), folder + "/none.parquet")
    pq.write_table(pa.table({"age": pa.repeat(1.0, 40_000_000)}), folder + "/bomb.parquet")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), ["x" * 1_000_000]).cast(pa.dictionary(pa.int32(), pa.string()))
    pq.write_table(pa.table({"age": pa.repeat(1.0, 50_000), "city": long}), folder + "/texts.parquet")
"""


@pytest.fixture(scope="module")
def model() -> Any:
    columns = make_column_transformer((SimpleImputer(), ["age"]), (OneHotEncoder(), ["city", "member"]))
    return make_pipeline(columns, LogisticRegression()).fit(FRAME, ["yes", "no"] * 8)


@pytest.fixture(scope="module")
def server(module_server: StartServer, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("models")
    joblib.dump(model, folder / "plain.joblib")
    here = module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    here.deploy(folder / "plain.joblib")
    here.deploy(folder / "plain.joblib", model_name="reading", requirements="pyarrow")
    return here


@pytest.fixture(scope="module")
def files(server: Server, environments: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    FRAME.to_csv(folder / "frame.csv", index=False)
    run_with_packages(environments, server.model("reading")["environment"]["hash"], WRITE, str(folder))
    return {path.stem: path.read_bytes() for path in folder.glob("*.parquet")}


def test_rows_are_answered_in_json_and_beside_themselves(server: Server, model: Any, files: dict[str, bytes]) -> None:
    wanted = model.predict(FRAME).tolist()
    answer = server.http.post("/models/reading/predict", content=files["good"], headers=PARQUET)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == wanted
    assert answer.headers["x-ignored-columns"] == '["id", "when", "day"]'
    answer = server.http.post("/models/reading/predict", content=files["good"], headers=TABLE)
    names, *rows = csv.reader(answer.text.splitlines())
    assert names[:6] == ["age", "city", "member", "id", "when", "day"]
    assert names[-2:] == ["prediction", "error"] or names[-1] == "prediction"
    assert [row[-1] for row in rows] == wanted
    assert rows[1][:6] == ["", "Rome", "False", "0.25", "2024-01-02T00:00:00+01:00", "2024-01-01"]
    assert [rows[2][1], rows[3][1]] == ["007", "=1+1"]


def test_a_bad_row_costs_no_other_its_result(server: Server, model: Any, files: dict[str, bytes]) -> None:
    answer = server.http.post("/models/reading/predict", content=files["one"], headers=TABLE)
    names, *rows = csv.reader(answer.text.splitlines())
    assert names[-1] == "error"
    assert [index for index, row in enumerate(rows) if row[-1]] == [3]
    assert "Bern" in rows[3][-1]
    refused = problem(server.http.post("/models/reading/predict", content=files["bad"], headers=PARQUET))
    assert (refused["status"], refused["code"], refused["column"]) == (422, "not_a_number", "age")


def test_what_is_no_table_is_refused_and_the_model_goes_on(server: Server, files: dict[str, bytes]) -> None:
    good = files["good"]
    for body, status, code in (
        (b"", 400, "not_parquet"),
        (b"PAR1", 400, "not_parquet"),
        (good[:-200], 400, "not_parquet"),
        (good[:200] + bytes(200) + good[400:], 400, "not_parquet"),
        (files["lists"], 422, "not_a_value"),
        (files["none"], 422, "no_rows"),
        (files["bomb"], 413, "table_too_large"),
        (files["texts"], 413, "table_too_large"),
    ):
        refused = problem(server.http.post("/models/reading/predict", content=body, headers=PARQUET))
        assert (refused["status"], refused["code"]) == (status, code)
    assert server.model("reading")["restarts"] == []


def test_an_environment_without_a_reader_says_so(server: Server, files: dict[str, bytes]) -> None:
    refused = problem(server.http.post("/models/plain/predict", content=files["good"], headers=PARQUET))
    assert (refused["status"], refused["code"]) == (415, "parquet_reader_missing")
    assert "prism predict REF -f" in refused["hint"]


def test_the_page_takes_a_file(server: Server, files: dict[str, bytes]) -> None:
    path = f"/predict-table?model_id={server.model('reading')['model_id']}"
    answer = server.http.post(path, files={"table": ("data.parquet", files["good"])}, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    assert "data-predictions.csv" in answer.headers["content-disposition"]
    names, *_ = csv.reader(answer.text.splitlines())
    assert "prediction" in names
