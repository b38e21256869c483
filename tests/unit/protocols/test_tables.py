"""POST /models/{ref}/predict with a table as text, over ASGI, in front of a replica that really predicts."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from tests.unit.protocols.gateway import MAX_BODY_BYTES, Gateway

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]
CSV = "a,b,c,d\n5.1,3.5,1.4,0.2\n6.2,3.4,5.4,2.3\n"
PATH = "/models/iris/predict"


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", 'TEXT/CSV; header="present"'])
async def test_a_table_is_answered_as_the_same_rows_in_json(here: Gateway, kind: str) -> None:
    wanted = await here.http.post(PATH, json={"features": ROWS})
    answer = await here.http.post(PATH, content=CSV, headers={"Content-Type": kind})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == wanted.json()


async def test_its_rows_come_back_with_the_results_beside_them(here: Gateway, iris: Any) -> None:
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    answer = await here.http.post(f"{PATH}?probabilities=true", content=CSV, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-model-version"] == "1.0.0"
    names, *rows = csv.reader(answer.text.splitlines())
    assert names == ["a", "b", "c", "d", "prediction", *(f"probability_{label}" for label in iris.classes_)]
    assert [row[:4] for row in rows] == [line.split(",") for line in CSV.splitlines()[1:]]
    assert [row[4] for row in rows] == [str(label) for label in iris.predict(ROWS)]


async def test_a_body_of_json_is_answered_in_json_whatever_is_accepted(here: Gateway) -> None:
    answer = await here.http.post(PATH, json={"features": ROWS}, headers={"Accept": "text/csv"})
    assert answer.json()["model"] == "iris"


async def test_a_bad_cell_costs_its_row_alone_the_result_and_in_json_all_of_them(here: Gateway) -> None:
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    answer = await here.http.post(PATH, content=CSV.replace("3.4", "wide"), headers=headers)
    names, first, second = csv.reader(answer.text.splitlines())
    assert (answer.status_code, names[4:]) == (200, ["prediction", "error"])
    assert (bool(first[4]), first[5], second[4]) == (True, "", "")
    assert '"wide"' in second[5]
    asked = await here.http.post(f"{PATH}?errors=true", content=CSV, headers=headers)
    assert [row[5] for row in csv.reader(asked.text.splitlines())] == ["error", "", ""]
    headers["Accept"] = "application/json"
    answer = await here.http.post(PATH, content=CSV.replace("3.4", "wide"), headers=headers)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["row"] == 1
    assert '"wide"' in answer.json()["detail"]


@pytest.mark.parametrize(("content", "status"), [(b"\xff", 400), (b"", 400), (bytes(MAX_BODY_BYTES + 1), 413)])
async def test_what_is_no_table_is_refused(here: Gateway, content: bytes, status: int) -> None:
    answer = await here.http.post(PATH, content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == status


async def test_parquet_reaches_the_model_whose_environment_has_no_reader(here: Gateway) -> None:
    headers = {"Content-Type": "application/vnd.apache.parquet", "Accept": "text/csv"}
    answer = await here.http.post(PATH, content=b"PAR1", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "parquet_reader_missing")
    assert "pyarrow" in answer.json()["hint"]
