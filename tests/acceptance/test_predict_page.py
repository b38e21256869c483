"""The page of a prediction as a browser without JavaScript uses it, and the programs it offers, run as they are."""

from __future__ import annotations

import ast
import base64
import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import joblib
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prism import Prism
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server

CITIES = ["O'Hara", 'Zürich "West"', "New\nYork", "$HOME `x`"]
BROWSER = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def customers_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, and texts that are hard on a shell."""
    rows = pd.DataFrame({"age": [20.0, 30, 40, 50] * 10, "city": CITIES * 10})
    columns = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["city"]))
    model = make_pipeline(columns, LogisticRegression()).fit(rows, (["low", "<b>high</b>", "middle"] * 14)[:40])
    path = tmp_path_factory.mktemp("models") / "customers.joblib"
    joblib.dump(model, path)
    return path


@pytest.fixture(scope="module")
def customers(module_server: StartServer, customers_file: Path) -> Server:
    here = module_server(PRISM_TARGET="process")
    here.deploy(customers_file, model_name="customers")
    return here


def predicted(server: Server, model_id: str = "customers", **fields: str) -> str:
    """The page after a form was sent as browsers send it."""
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields.items()]
    answer = server.http.post("/predict-result", params={"model_id": model_id}, files=parts, headers=BROWSER)
    assert answer.status_code == 200, answer.text
    assert "Traceback" not in answer.text
    return answer.text


def text_of(page: str, id: str) -> str:
    """The text of the element with that id, which holds no other of its kind."""
    found = re.search(rf'<(\w+)[^>]*\bid="{id}"[^>]*>(.*?)</\1>', page, re.DOTALL)
    assert found, f"no #{id}"
    return html.unescape(re.sub(r"<[^>]+>", "", found[2])).strip()


def control(page: str, label: str) -> str:
    """The tag of the control that a label is for."""
    found = re.search(rf'<label for="([^"]+)">{re.escape(html.escape(label))}</label>', page)
    assert found, f"no label {label}"
    tag = re.search(rf'<(?:input|select|textarea)[^>]*\bid="{found[1]}"[^>]*>', page)
    assert tag
    return tag[0]


def test_the_form_stands_ready_with_the_sample_and_answers_without_javascript(customers: Server) -> None:
    page = customers.http.get("/predict", params={"model_id": "customers"}, headers=BROWSER).text
    assert 'value="35.0"' in control(page, "age")
    assert "<select" in control(page, "city")
    assert json.loads(text_of(page, "json")) == customers.model("customers")["sample"]
    answered = predicted(customers, tab="form", v0="20", v1=json.dumps(CITIES[0]))
    expected = customers.predict("customers", {"age": 20, "city": CITIES[0]}, probabilities="true").json()
    assert text_of(answered, "answer") == expected["predictions"][0]
    assert "<b>high</b>" not in answered
    assert re.search(r"\d m?s, of which the model", text_of(answered, "latency"))
    assert customers.model("customers")["model_id"] in text_of(answered, "answered-by")
    shares = [float(share) for share in re.findall(r'class="part" width="([\d.]+)"', answered)]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx(sorted((100 * p for p in expected["probabilities"][0]), reverse=True), abs=0.01)
    assert json.loads(text_of(answered, "json")) == {"age": 20, "city": CITIES[0]}


def test_what_cannot_be_read_is_said_on_its_field_and_nothing_is_lost(customers: Server) -> None:
    page = predicted(customers, tab="form", v0="abc", v1=json.dumps(CITIES[1]))
    marked = control(page, "age")
    assert 'value="abc"' in marked
    assert 'aria-invalid="true"' in marked
    assert 'aria-describedby="field-0-wrong"' in marked
    assert "autofocus" in marked
    assert text_of(page, "field-0-wrong") == "abc is not a number."
    assert f'value="{html.escape(json.dumps(CITIES[1])).replace("&quot;", "&#34;")}" selected' in page


def test_what_the_model_refuses_is_said_where_it_was_written(customers: Server) -> None:
    page = predicted(customers, tab="json", json='{"age": 1}')
    assert "city" in text_of(page, "json-wrong")
    assert 'aria-invalid="true"' in control(page, "Request body")
    assert text_of(page, "json") == '{"age": 1}'
    assert "not JSON" in text_of(predicted(customers, tab="json", json="{"), "json-wrong")
    refused = predicted(customers, tab="form", v0="", v1='"Oslo"')
    assert "not one of the choices" in text_of(refused, "field-1-wrong")
    impossible = predicted(customers, tab="form", v0="", v1=json.dumps(CITIES[0]))
    assert "NaN" in text_of(impossible, "result-problem")
    assert 'tabindex="-1" autofocus' in impossible


def test_several_rows_are_answered_as_several_rows(customers: Server) -> None:
    rows = [{"age": age, "city": "Oslo"} for age in range(3)]
    page = predicted(customers, tab="json", json=json.dumps({"instances": rows}))
    assert len(re.findall(r'<th scope="row">', page)) == 3
    assert text_of(page, "predictions").startswith("3 rows")


def test_columns_that_the_model_does_not_have_are_ignored_and_named_in_a_header(customers: Server) -> None:
    row = {"age": 35, "city": "O'Hara", "zip\n": 1}
    for path in (
        "/models/customers/predict",
        "/models/customers/predict?strict=false",
        "/models/customers/invocations",
    ):
        body = {"dataframe_records": [row]} if path.endswith("invocations") else row
        answer = customers.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Ignored-Columns"] == '["zip\\n"]'
    refused = customers.http.post("/models/customers/predict?strict=true", json=row)
    assert (refused.status_code, refused.json()["unexpected"]) == (422, ["zip\n"])
    assert "X-Ignored-Columns" not in customers.http.post("/models/customers/predict", json={**row, "city": 1}).headers


def test_a_form_that_is_none_is_never_more_than_a_complaint(customers: Server) -> None:
    for kind in ("", "multipart/form-data", "multipart/form-data; boundary=x", "application/json"):
        for body in (b"", b"--x", b"tab=json&json=[", b"\x00" * 100):
            headers = {**BROWSER, **({"Content-Type": kind} if kind else {})}
            answer = customers.http.post("/predict-result?model_id=customers", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert "No prediction" in answer.text


def test_a_file_takes_the_place_of_its_field(customers: Server, tmp_path: Path) -> None:
    """What the page makes of a file is seen in the body that it shows, whatever the model says to it."""
    files = [("tab", (None, "form")), ("v0", (None, "1")), ("v1-file", ("x.png", b"\x89PNG\x00", "image/png"))]
    answer = customers.http.post("/predict-result?model_id=customers", files=files, headers=BROWSER)
    assert base64.b64encode(b"\x89PNG\x00").decode() in html.unescape(answer.text)


def test_a_model_that_is_stopped_says_so_and_can_be_started_from_its_page(customers: Server) -> None:
    customers.http.post("/models/customers/stop")
    page = customers.http.get("/predict", params={"model_id": "customers"}, headers=BROWSER).text
    assert "This model is stopped" in text_of(page, "not-serving")
    model_id = customers.model("customers")["model_id"]
    assert f'action="/models-ui/{model_id}/start"' in page
    assert "disabled" in page
    assert "stopped" in text_of(predicted(customers, tab="form", v0="1", v1=json.dumps(CITIES[0])), "result-problem")
    assert customers.http.post("/models/customers/start").json()["status"] == "live"


def test_htmx_gets_the_part_that_the_page_is_made_of(customers: Server) -> None:
    part = customers.http.post(
        "/predict-result?model_id=customers", files=[("tab", (None, "form"))], headers={"HX-Request": "true"}
    )
    assert "<html" not in part.text
    assert part.text.lstrip().startswith('<div id="predict"')
    assert part.headers["vary"] == "Accept, HX-Request"


def test_a_model_that_does_not_exist_is_not_found(customers: Server) -> None:
    for answer in (
        customers.http.get("/predict?model_id=nobody", headers=BROWSER),
        customers.http.post("/predict-result?model_id=nobody", headers=BROWSER),
        customers.http.get("/model-logs?model_id=nobody", headers=BROWSER),
        customers.http.get("/model-logs/download?model_id=nobody", headers=BROWSER),
    ):
        assert answer.status_code == 404
        assert "nobody" in answer.text


RUN = {
    "curl": ["bash", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "-e"],
    "sdk": [sys.executable, "-c"],
}


@pytest.mark.node
@pytest.mark.parametrize("keys", ["", "a key with $HOME and 'quotes'"], ids=["open", "with a key"])
def test_every_program_runs_as_it_is_and_gets_the_answer_of_the_client(
    start_server: StartServer, customers_file: Path, keys: str
) -> None:
    here = start_server(PRISM_TARGET="process", **({"PRISM_API_KEYS": keys} if keys else {}))
    here.http.headers.update({"X-API-Key": keys} if keys else {})
    here.deploy(customers_file, model_name="customers")
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ |= {"PRISM_API_KEY": keys, "PYTHONIOENCODING": "utf-8"}
    for city in CITIES:
        body = {"age": 33.5, "city": city}
        page = predicted(here, tab="form", v0="33.5", v1=json.dumps(city))
        assert keys == "" or keys not in html.unescape(page)
        with Prism(here.url, keys) as prism:
            expected = prism.predict("customers", body, probabilities=True).document
        for name, command in RUN.items():
            code = text_of(page, f"code-{name}")
            done = subprocess.run(
                [*command, code], capture_output=True, text=True, check=False, env=environ, timeout=60
            )
            assert done.returncode == 0, f"{name}: {done.stderr}\n{code}"
            assert read(done.stdout) == expected, name


def read(said: str) -> Any:
    """JSON, or a Python object as it is printed."""
    try:
        return json.loads(said)
    except ValueError:
        return ast.literal_eval(said)


def test_a_log_is_filtered_and_downloaded_without_javascript(customers: Server) -> None:
    def page(**params: str) -> httpx2.Response:
        return customers.http.get("/model-logs", params={"model_id": "customers", **params}, headers=BROWSER)

    assert "needs scikit-learn" in page(kind="build").text
    assert "needs scikit-learn" not in page(kind="build", text="ENVIRONMENT").text
    assert "environment " in page(kind="build", text="ENVIRONMENT").text
    assert page(kind="build", level="error").text.count('class="line"') == 0
    assert page(kind="nonsense").status_code == 400
    params = {"model_id": "customers", "kind": "build", "text": "needs"}
    file = customers.http.get("/model-logs/download", params=params)
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''customers-1.0.0-build.log"
    assert file.text
    assert all("needs" in line for line in file.text.splitlines())
