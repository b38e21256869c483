"""A folder with a model.py is served: its code answers, with its own requirements, behind the walls."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.python_mode_lab import FILES, zipped
from tests.acceptance.server import CHECKOUT, Server, problem


def tarred(folder: Path, files: Mapping[str, str], name: str = "tariff.tar.gz") -> Path:
    with tarfile.open(folder / name, "w:gz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return folder / name


@pytest.fixture
def here(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process")


def test_a_folder_with_code_and_data_answers(start_server: StartServer, target: str, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET=target)
    document = server.deploy(zipped(tmp_path, FILES))
    assert document["name"] == "tariff"
    assert document["inspection"]["format"] == "python"
    assert document["inspection"]["facts"]["class"] == "Tariff"
    assert document["unsafe_consent"] is None
    assert document["sample"] == {"features": [{"city": "oslo", "km": 1}]}
    rows = [{"city": "oslo", "km": 3}, {"city": "lima", "km": 4}]
    for body in ({"features": rows}, {"instances": rows}, rows):
        assert server.predict("tariff", body).json()["predictions"] == [7.5, 5.0]
    assert server.predict("tariff", rows[1]).json()["predictions"] == [5.0]
    refused = problem(server.predict("tariff", {"features": [{"city": "rome", "km": 1}]}))
    assert refused["status"] == 422
    assert "rome" in refused["detail"]


def test_requirements_and_python_version_beside_it_are_its_environment(here: Server, tmp_path: Path) -> None:
    files = {
        "model.py": "import tabulate\nclass Model:\n    def predict(self, rows):\n"
        "        return [tabulate.tabulate([row], tablefmt='plain') for row in rows]\n",
        "requirements.txt": "# what it prints with\ntabulate==0.9.0\n",
        ".python-version": "3.11\n",
    }
    document = here.deploy(tarred(tmp_path, files, "table.tgz"))
    pins = {pin["distribution"]: pin for pin in document["environment"]["pins"]}
    assert pins["tabulate"]["specifier"] == "==0.9.0"
    assert pins["tabulate"]["evidence"] == "requirements.txt asks for it"
    assert document["environment"]["python"] == "3.11"
    assert here.predict("table", {"features": [[1, 2]]}).json()["predictions"] == ["1  2"]


def test_without_requirements_its_imports_tell_what_it_needs(here: Server, tmp_path: Path) -> None:
    files = {
        "model.py": "import os\nfrom tabulate import tabulate\nfrom helper import x\nclass Model:\n"
        "    def predict(self, rows):\n        return [tabulate([row]).count('-') for row in rows]\n",
        "helper.py": "x = 1\n",
    }
    document = here.deploy(zipped(tmp_path, files, "count.zip"))
    pins = {pin["distribution"]: pin["evidence"] for pin in document["environment"]["pins"]}
    assert pins["tabulate"].startswith("model.py imports `tabulate`")
    assert "helper" not in pins


def test_declared_inputs_are_checked_and_rows_of_several_requests_joined(here: Server, tmp_path: Path) -> None:
    files = {
        "model.py": "class Model:\n    inputs = {'age': 'FP64', 'city': 'BYTES'}\n    outputs = {'risk': 'FP64'}\n"
        "    batch = True\n    def predict(self, inputs):\n"
        "        return inputs['age'] * [2.0 if city == 'lima' else 1.0 for city in inputs['city']]\n"
    }
    document = here.deploy(zipped(tmp_path, files, "risk.zip"))
    signature = document["signature"]
    assert [(one["name"], one["datatype"]) for one in signature["inputs"]] == [("age", "FP64"), ("city", "BYTES")]
    assert [one["name"] for one in signature["outputs"]] == ["risk"]
    assert here.predict("risk", {"city": "lima", "age": 3}).json()["predictions"] == [6.0]
    refused = problem(here.predict("risk", {"age": "old", "city": "lima"}))
    assert refused["column"] == "age"
    tensors = [
        {"name": "age", "shape": [2], "datatype": "FP64", "data": [1, 2]},
        {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["rome", "lima"]},
    ]
    answer = here.http.post("/v2/models/risk/infer", json={"inputs": tensors}).json()
    assert answer["outputs"] == [{"name": "risk", "datatype": "FP64", "shape": [2], "data": [1.0, 4.0]}]


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"model.py": "def predict(rows): return rows\n"}, "unsupported_format", "no class with `load` and `predict`"),
        ({"model.py": "class Model:\n    def predict(self, rows) return rows\n"}, "bad_input", "is not Python"),
        (
            {"notes.txt": "hello", "data.csv": "a,b"},
            "unsupported_format",
            "holds no model. It holds data.csv, notes.txt",
        ),
        (
            {"model.py": "class Model:\n    def predict(self, r): return r\n", "requirements.txt": "-r more.txt"},
            "bad_input",
            "of requirements.txt is an option",
        ),
        ({"a.onnx": "x", "b.onnx": "y"}, "bad_input", "2 model files: a.onnx, b.onnx"),
        (
            {"model.py": "class Model:\n    def predict(self, r): return r\n", "model_config.yaml": "max_batchsize: 3"},
            "bad_input",
            "unknown key `max_batchsize`",
        ),
    ],
)
def test_a_folder_that_is_no_model_is_refused_by_what_it_holds(
    here: Server, tmp_path: Path, files: dict[str, str], code: str, words: str
) -> None:
    refused = problem(here.upload(zipped(tmp_path, files)))
    assert refused["code"] == code
    assert words in refused["detail"]
    assert refused["hint"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "class Model:\n    def load(self):\n        raise OSError('no weights')\n    def predict(self, r): return r\n",
            "no weights",
        ),
        (
            "class Base:\n    pass\nclass Model(Base):\n    def forward(self, r): return r\n    def predict(self): pass\n    predict = None\n",
            "one class with load and predict",
        ),
    ],
)
def test_a_class_that_does_not_load_says_why(here: Server, tmp_path: Path, source: str, words: str) -> None:
    refused = problem(here.upload(zipped(tmp_path, {"model.py": source})))
    assert refused["code"] == "start_failed"
    assert words in refused["detail"]


def test_without_a_sample_type_hints_make_one_and_the_form_starts_from_it(here: Server, tmp_path: Path) -> None:
    source = (
        "from typing import List, TypedDict\nclass Row(TypedDict):\n    city: str\n    km: float\n"
        "class Model:\n    def predict(self, rows: List[Row]) -> List[float]:\n"
        "        return [len(row['city']) * row['km'] for row in rows]\n"
    )
    document = here.deploy(zipped(tmp_path, {"model.py": source}, "hinted.zip"))
    assert document["sample"] == {"features": [{"city": "a short text", "km": 1.0}]}
    page = here.http.get("/predict", params={"model_id": document["model_id"]}).text
    assert re.findall(r'<label for="field-\d">(\w+)</label>', page) == ["city", "km"]
    result = here.http.post(
        "/predict-result",
        params={"model_id": document["model_id"]},
        data={"tab": "form", "v0": "oslo", "v1": "2.5"},
    )
    assert ">10.0<" in result.text


def test_a_class_that_does_not_answer_is_refused_with_the_line_to_add(here: Server, tmp_path: Path) -> None:
    source = "class Model:\n    def predict(self, rows):\n        return [{'oslo': 2}[row['city']] for row in rows]\n"
    refused = problem(here.upload(zipped(tmp_path, {"model.py": source}, "cities.zip")))
    assert refused["code"] == "probe_failed"
    assert "`sample = {'features': [{'city': 1.0}]}`" in refused["hint"]


def test_its_code_is_confined(here: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    source = (
        "import socket\nclass Model:\n    def predict(self, rows):\n        found = []\n"
        f"        for way in (lambda: open({str(secret)!r}).read(), lambda: open({str(here.home)!r} + '/server.log').read(),\n"
        "                    lambda: socket.create_connection(('127.0.0.1', int(rows[0][0])), 1)):\n"
        "            try:\n                way()\n                found.append('open')\n"
        "            except OSError:\n                found.append('shut')\n        return [found]\n"
    )
    here.deploy(zipped(tmp_path, {"model.py": source}, "spy.zip"), expected_input_json='{"features": [[1]]}')
    assert here.predict("spy", {"features": [[here.port]]}).json()["predictions"] == [["shut", "shut", "shut"]]


def test_the_example_of_the_page_is_served(start_server: StartServer, tmp_path: Path) -> None:
    here = start_server(PRISM_TARGET="process")
    page = (CHECKOUT / "docs" / "formats.md").read_text().split("## Python mode")[1]
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    body, answer = re.search(r"-d '(.*?)'.*?(\{\"model\".*?\})\n", page, re.S).groups()  # type: ignore[union-attr]
    files = {"tariff/model.py": source, "tariff/rates.json": '{"oslo": 2.5}'}
    here.deploy(zipped(tmp_path, files))
    answered = here.predict("tariff", json.loads(body)).json()
    assert {**answered, "model_id": "…"} == json.loads(answer)
