"""An image that runs by itself, as the clients of V2, MLflow, KServe, SageMaker and Vertex speak to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tritonclient.utils import InferenceServerException

from model_container.contract.config import VARIABLE, RuntimeConfig
from tests.acceptance.server import free_port, wait_for

PROGRAM = Path(__file__).parents[2] / "model_container" / "__main__.py"
ROWS = load_iris().data[:40]
VERTEX = {"AIP_HEALTH_ROUTE": "/vertex/health", "AIP_PREDICT_ROUTE": "/vertex/predict"}


@pytest.fixture(scope="module")
def labels(artifact: Path) -> list[int]:
    found: list[int] = joblib.load(artifact).predict(ROWS).tolist()
    return found


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "iris.joblib"
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), path)
    return path


@pytest.fixture(scope="module")
def port(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of a runtime without a gateway: the port that Vertex sets, not that of its configuration."""
    port = free_port()
    config = RuntimeConfig(artifact=str(artifact), format="joblib", port=free_port())
    environ = {**os.environ, VARIABLE: config.to_json(), "AIP_HTTP_PORT": str(port), **VERTEX}
    log = tmp_path_factory.mktemp("log") / "runtime.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-B", str(PROGRAM)], env=environ, stdout=out, stderr=out)
    try:
        wait_for(lambda: process.poll() is not None or answers(port), 60, "the runtime's start")
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    try:
        return call(port, "/ping")[0] == 200
    except OSError:
        return False


def call(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def given(name: str, *, binary: bool) -> Any:
    return triton.InferInput(name, [len(ROWS), ROWS.shape[1]], "FP64").set_data_from_numpy(ROWS, binary_data=binary)


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritons_client_is_answered(port: int, labels: list[int], binary: bool, compression: str | None) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("any name")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata("iris", "3")
        name = metadata["inputs"][0]["name"]
        asked = [triton.InferRequestedOutput(metadata["outputs"][0]["name"], binary_data=binary)]
        answer = client.infer(
            "iris",
            [given(name, binary=binary)],
            outputs=asked,
            model_version="3",
            request_id="seven",
            request_compression_algorithm=compression,
        )
    said = answer.get_response()
    assert (said["model_name"], said["model_version"], said["id"]) == ("iris", "3", "seven")
    assert answer.as_numpy(metadata["outputs"][0]["name"]).ravel().tolist() == labels


def test_tritons_client_reads_the_errors(port: int) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        narrow = triton.InferInput("input", [2, 3], "FP64").set_data_from_numpy(np.zeros((2, 3)))
        with pytest.raises(InferenceServerException, match="3"):
            client.infer("iris", [narrow])
        with pytest.raises(InferenceServerException, match="There is no /v2/models/iris/config"):
            client.get_model_config("iris")


def test_mlflows_client_is_answered(port: int, labels: list[int]) -> None:
    with warnings.catch_warnings(action="ignore"):  # of MLflow about itself
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    client = ScoringServerClient("127.0.0.1", port)

    client.wait_server_ready(10)
    assert client.get_version()
    found = client.invoke(pd.DataFrame(ROWS)).get_predictions()

    assert np.ravel(found).tolist() == labels


def test_a_csv_is_answered_and_other_types_are_refused_as_mlflow_does(port: int, labels: list[int]) -> None:
    table = pd.DataFrame(ROWS, columns=list("abcd")).to_csv(index=False).encode()

    status, body = call(port, "/invocations", table, **{"Content-Type": "text/csv"})
    assert (status, json.loads(body)) == (200, {"predictions": labels})
    status, body = call(port, "/invocations", table, **{"Content-Type": "image/png"})
    assert (status, json.loads(body).keys()) == (415, {"error_code", "message"})


def test_kserve_v1_is_answered(port: int, labels: list[int]) -> None:
    body = json.dumps({"instances": ROWS.tolist()}).encode()

    assert json.loads(call(port, "/v1/models/iris")[1]) == {"name": "iris", "ready": True}
    assert json.loads(call(port, "/v1/models/iris:predict", body)[1]) == {"predictions": labels}
    status, refusal = call(port, "/v1/models/iris:predict", b'{"rows": []}')
    assert (400 <= status < 500, json.loads(refusal).keys()) == (True, {"error"})


def test_vertex_is_answered_on_its_own_paths_and_port(port: int, labels: list[int]) -> None:
    body = json.dumps({"instances": ROWS.tolist()}).encode()

    assert call(port, VERTEX["AIP_HEALTH_ROUTE"])[0] == 200
    assert json.loads(call(port, VERTEX["AIP_PREDICT_ROUTE"], body)[1]) == {"predictions": labels}


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Content-Encoding": "gzip"}, b"no gzip", 400),
        ({"Content-Encoding": "br"}, b"{}", 415),
        ({"Inference-Header-Content-Length": "900"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "-1"}, b"{}", 400),
        ({}, b"{", 400),
    ],
)
def test_an_invalid_request_gets_a_v2_error(port: int, headers: dict[str, str], body: bytes, expected: int) -> None:
    status, refusal = call(port, "/v2/models/iris/infer", body, **headers)

    assert (status, json.loads(refusal).keys()) == (expected, {"error"})
