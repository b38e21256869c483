"""From a file to a live endpoint, and back to nothing, on both targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.server import Server, wait_for


@pytest.fixture
def server(module_server: StartServer, target: str) -> Server:
    return module_server(PRISM_TARGET=target)


VIRGINICA = {"sepal length (cm)": 6.3, "sepal width (cm)": 3.3, "petal length (cm)": 6.0, "petal width (cm)": 2.5}


def test_a_file_becomes_an_endpoint_that_answers_by_name_version_and_id(
    server: Server, iris_file: Path, target: str
) -> None:
    model = server.deploy(iris_file, model_name="flower", model_description="Which iris is it?")
    assert model["status"] == "live"
    assert model["target"] == target
    assert model["version"] == "1.0.0"
    assert model["signature"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert [column["name"] for column in model["signature"]["inputs"]] == list(ROW)
    for ref in ("flower", "flower@1.0.0", model["model_id"]):
        answer = server.predict(ref, ROW)
        assert answer.json() == {
            "model": "flower",
            "version": "1.0.0",
            "model_id": model["model_id"],
            "predictions": ["setosa"],
        }
        assert answer.headers["X-Model-Version"] == "1.0.0"
        assert answer.headers["X-Request-ID"]
        assert all(part in answer.headers["Server-Timing"] for part in ("queue;dur=", "batch;", "inference;dur="))
    endpoint = server.http.post(model["endpoint"], json=VIRGINICA)
    assert endpoint.json()["predictions"] == ["virginica"]


def test_what_the_environment_is_made_of_comes_with_its_evidence(server: Server, iris_file: Path) -> None:
    import sklearn

    model = server.deploy(iris_file)
    pins = {pin["distribution"]: pin for pin in model["environment"]["pins"]}
    assert pins["scikit-learn"]["specifier"] == f"=={sklearn.__version__}"
    assert "_sklearn_version" in pins["scikit-learn"]["evidence"]
    assert f"scikit-learn=={sklearn.__version__}" in model["environment"]["packages"]
    assert model["runtime"]["libraries"]["scikit-learn"] == sklearn.__version__


def test_every_native_dialect_is_answered_alike(server: Server, iris_file: Path) -> None:
    server.deploy(iris_file, model_name="iris")
    names, rows = list(ROW), [list(ROW.values()), list(VIRGINICA.values())]
    bodies: list[object] = [
        {"input": rows},
        {"features": rows},
        {"instances": rows},
        {"instances": [ROW, VIRGINICA]},
        {"inputs": {name: [row[i] for row in rows] for i, name in enumerate(names)}},
        {"dataframe_split": {"columns": names, "data": rows}},
        {"dataframe_records": [ROW, VIRGINICA]},
        rows,
    ]
    for body in bodies:
        answer = server.predict("iris", body)
        assert answer.json()["predictions"] == ["setosa", "virginica"], (body, answer.text)
    v2 = {"inputs": [{"name": "X", "shape": [2, 4], "datatype": "FP64", "data": rows}]}
    (output,) = server.predict("iris", v2).json()["outputs"]
    assert output["data"] == ["setosa", "virginica"]


def test_probabilities_come_on_request(server: Server, iris_file: Path) -> None:
    server.deploy(iris_file, model_name="iris")
    answer = server.predict("iris", ROW, probabilities="true").json()
    assert answer["classes"] == ["setosa", "versicolor", "virginica"]
    assert abs(sum(answer["probabilities"][0]) - 1) < 1e-9


def test_stop_start_restart_and_delete_do_what_they_say(
    start_server: StartServer, iris_file: Path, target: str, tmp_path: Path
) -> None:
    # The environment goes with the model: it is not the one of the server beside it.
    server = start_server(PRISM_TARGET=target, PRISM_ENVIRONMENT_ROOT=tmp_path)
    model = server.deploy(iris_file, model_name="iris")
    folder = server.home / "model_store" / "uploads" / model["model_id"]
    assert server.http.post("/models/iris/stop").json()["status"] == "stopped"
    assert server.predict("iris", ROW).status_code == 409
    assert server.http.post("/models/iris/start").json()["status"] == "live"
    assert server.predict("iris", ROW).status_code == 200
    before = server.model("iris")["replica"]["id"]
    assert server.http.post("/models/iris/restart").json()["replica"]["id"] != before
    assert server.predict("iris", ROW).status_code == 200
    assert folder.exists()
    assert server.http.delete("/models/iris").json()["removed"]
    assert server.predict("iris", ROW).status_code == 404
    assert server.http.get("/models").json()["models"] == []
    assert server.http.get("/registry").json() == {"entries": []}
    assert not folder.exists()
    wait_for(lambda: not server.replica_processes(), 30, "the end of every process of the model")


def test_an_upload_may_be_watched_instead_of_waited_for(server: Server, iris_file: Path) -> None:
    answer = server.http.post(
        "/models/upload-and-run?wait=false", files={"file": ("iris.joblib", iris_file.read_bytes())}
    )
    assert answer.status_code == 202
    location = answer.headers["Location"]
    wait_for(lambda: server.http.get(location).json()["status"] == "live", 300, "the model's going live")
    steps = server.http.get(location).json()["timings_ms"]
    assert steps.keys() >= {"receive", "inspect", "resolving", "building", "starting", "probing"}
    build_log = server.http.get(f"{location}/logs", params={"kind": "build"}).text
    assert "scikit-learn" in build_log


def test_upload_alone_builds_and_waits_for_start(server: Server, iris_file: Path) -> None:
    answer = server.upload(iris_file, "/models/upload", model_name="iris")
    assert answer.json()["status"] == "built"
    assert answer.json()["replica"] is None
    assert server.http.post("/models/iris/start").json()["status"] == "live"
    assert server.predict("iris", ROW).status_code == 200
