"""Live first, then accelerated: nobody who asks notices, but for the time it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem, wait_for

pytestmark = pytest.mark.slow

ACCELERATION_SECONDS = 240
PAUSE_SECONDS = 0.05
"""Between two requests of a connection, so that the load leaves the machine to the conversion."""
OWN_CODE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Own(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_, self.n_features_in_ = np.unique(y), x.shape[1]
        return self
    def predict(self, x):
        return self.classes_[(np.asarray(x)[:, 0] > 0).astype(int)]
"""


@pytest.fixture(scope="session")
def forest_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    iris = load_iris(as_frame=True)
    forest = RandomForestClassifier(100, n_jobs=2, random_state=0).fit(iris.data, iris.target_names[iris.target])
    path = tmp_path_factory.mktemp("models") / "forest.joblib"
    joblib.dump(forest, path)
    return path


def settled(server: Server, ref: str) -> dict[str, Any]:
    """The model once its acceleration came to an end."""
    under_way = ("pending", "converting")
    wait_for(
        lambda: server.model(ref)["acceleration"]["status"] not in under_way, ACCELERATION_SECONDS, "the acceleration"
    )
    return server.model(ref)


def answers(server: Server, ref: str) -> list[Any]:
    """To requests of all kinds, wrong ones among them, without what differs from request to request."""
    features = load_iris().data.tolist()
    found = []
    for body in ({"features": features}, {"features": [[None, 1, 2, 3]]}, {"features": [[1, 2, 3]]}, {"petal": 1}):
        answer = server.predict(ref, body, probabilities="true").json()
        found.append({key: value for key, value in answer.items() if key != "request_id"})
    return found


@contextmanager
def load(server: Server, ref: str) -> Iterator[list[str]]:
    """Requests one after the other on two connections; what they were answered that was not right."""
    failures: list[str] = []
    over = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            while not over.wait(PAUSE_SECONDS):
                answer = http.post(f"/models/{ref}/predict", json={"features": [[5.1, 3.5, 1.4, 0.2]]})
                if answer.status_code != 200 or answer.json()["predictions"] != ["setosa"]:
                    failures.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_forest_is_live_at_once_and_accelerated_without_a_failed_request(
    start_server: StartServer, forest_file: Path, target: str
) -> None:
    server = start_server(PRISM_TARGET=target, PRISM_ACCELERATE="auto")
    live = server.deploy(forest_file, model_name="forest")
    assert live["status"] == "live"
    assert live["replica"]["form"] == "original"
    before = answers(server, "forest")
    with load(server, "forest") as failures:
        model = settled(server, "forest")
    assert failures == []
    found = model["acceleration"]
    assert found["status"] == "accelerated", found
    assert found["speedup"]["1"] > 2
    assert found["rows_compared"] > 2000
    assert found["max_difference"] <= found["tolerance"]["absolute"]
    assert any(package.startswith("onnxruntime==") for package in found["environment"]["packages"])
    assert any(package.startswith("scikit-learn==") for package in model["environment"]["packages"])
    assert model["replica"]["form"] == "accelerated"
    assert "scikit-learn" not in model["runtime"]["libraries"]
    assert answers(server, "forest") == before

    server.kill()
    server.start()
    assert server.model("forest")["replica"] == model["replica"]  # adopted
    server.stop()
    server.start()
    wait_for(lambda: server.model("forest")["status"] == "live", 60, "the model's return")
    again = server.model("forest")
    assert (again["replica"]["form"], again["acceleration"]["status"]) == ("accelerated", "accelerated")
    assert answers(server, "forest") == before

    removed = server.http.delete("/models/forest").json()["removed"]
    assert len([line for line in removed if line.startswith("environment")]) == 3
    assert server.replica_processes() == []


def test_an_owner_may_refuse_it_and_what_cannot_be_converted_is_kept_with_a_reason(
    start_server: StartServer, forest_file: Path, tmp_path: Path
) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_ACCELERATE="auto", PRISM_SINGLE_ACTIVE_MODEL="false")
    assert server.deploy(forest_file, model_name="refused", accelerate="off")["acceleration"]["status"] == "off"
    assert "accelerate" in problem(server.upload(forest_file, accelerate="fast"))["detail"]

    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(OWN_CODE, namespace)
    import __main__

    __main__.Own = namespace["Own"]  # type: ignore[attr-defined]
    iris = load_iris()
    model = make_pipeline(StandardScaler(), namespace["Own"]()).fit(iris.data, iris.target > 0)
    joblib.dump(model, tmp_path / "own.joblib")
    server.deploy(tmp_path / "own.joblib", model_name="own", code={"own.py": OWN_CODE.encode()})
    kept = settled(server, "own")
    assert (kept["status"], kept["acceleration"]["status"]) == ("live", "kept")
    assert "Own" in kept["acceleration"]["reason"]
    assert "the original variant is kept" in server.http.get("/models/own/logs", params={"kind": "build"}).text
    assert server.predict("own", [[6.0, 1, 1, 1]]).json()["predictions"] == [True]
