"""KServe's V1 protocol, and the plain routes by a model's name, over HTTP alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.iris import ROW
from tests.acceptance.served import ROWS, SPECIES, TARGETS, passing_graph, serving
from tests.acceptance.server import Server


@pytest.fixture(scope="module", params=TARGETS)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    environments: Path,
    iris_file: Path,
) -> Iterator[Server]:
    settings = {"PRISM_TARGET": request.param, "PRISM_BATCHED_WAIT_MS": 300, "PRISM_MAX_BATCH_SIZE": 16}
    with serving(tmp_path_factory.mktemp("home"), environments, **settings) as server:
        server.deploy(iris_file, model_name="iris")
        server.deploy(passing_graph(tmp_path_factory.mktemp("graphs") / "passing.onnx"))
        yield server


def test_instances_become_predictions(server: Server) -> None:
    answer = server.http.post("/v1/models/iris:predict", json={"instances": ROWS.tolist()})
    assert answer.json() == {"predictions": SPECIES}
    answer = server.http.post("/v1/models/iris:predict", json={"instances": [ROW], "parameters": {"any": 1}})
    assert answer.json() == {"predictions": SPECIES[:1]}


def test_named_inputs_become_predictions_by_name(server: Server) -> None:
    inputs = {"text": [["a", "b"]], "half": [[0.5, 1]], "count": [[1, 2]]}
    answer = server.http.post("/v1/models/passing:predict", json={"inputs": inputs})
    assert answer.json() == {"predictions": [{f"{name}_out": rows[0] for name, rows in inputs.items()}]}


def test_it_tells_which_models_answer(server: Server) -> None:
    assert server.http.get("/v1/models").json() == {"models": ["iris", "passing"]}
    assert server.http.get("/v1/models/iris").json() == {"name": "iris", "ready": True}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/nobody:predict", {"instances": [[1]]}, 404),
        ("/v1/models/iris:predict", {"instances": [[1]]}, 422),
        ("/v1/models/iris:predict", {"features": [[1]]}, 422),
        ("/v1/models/iris", {}, 405),
    ],
)
def test_errors_are_told_in_its_form(server: Server, path: str, body: object, status: int) -> None:
    answer = server.http.post(path, json=body)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}


def test_bodies_may_be_compressed(server: Server) -> None:
    body = gzip.compress(json.dumps({"instances": ROWS.tolist()}).encode())
    for path in ("/v1/models/iris:predict", "/models/iris/predict"):
        answer = server.http.post(path, content=body, headers={"Content-Encoding": "gzip"})
        assert answer.json()["predictions"] == SPECIES, path


def test_the_plain_routes_answer_by_name(server: Server) -> None:
    assert server.http.get("/available_models").json() == {"available_models": ["iris", "passing"]}
    answer = server.http.post("/predict/iris", json={"features": ROWS.tolist()})
    assert answer.json() == {"model": "iris", "predictions": SPECIES}


def test_single_rows_are_joined_in_company(server: Server) -> None:
    def one(number: int) -> tuple[str, str]:
        answer = server.http.post("/predict_batched/iris", json={"features": [ROWS[number % 2].tolist()]})
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"][0], answer.headers["server-timing"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert [name for name, _ in answers] == SPECIES * 4
    assert max(int(timing.split('batch;desc="')[1].split('"')[0]) for _, timing in answers) > 1
