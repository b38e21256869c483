"""Servers and model files for the acceptance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.acceptance.server import Server

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def target(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it runs on both targets."""
    name: str = request.param
    return name


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[StartServer]:
    """Starts servers with the given settings; at the end they stop and remove what they made."""
    servers: list[Server] = []

    def start(**settings: object) -> Server:
        server = Server(tmp_path_factory.mktemp("home"), environments, **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        if server.process is not None and server.process.poll() is not None:
            server.start()  # it was stopped or killed: what it left is removed by one that finds it
        for model in server.http.get("/models", headers=keys_of(server)).json()["models"]:
            server.http.delete(f"/models/{model['model_id']}", headers=keys_of(server))
        server.stop()


def keys_of(server: Server) -> dict[str, str]:
    key = server.environ.get("PRISM_API_KEYS", "").split(",")[0]
    return {"X-API-Key": key} if key else {}


@pytest.fixture
def server(start_server: StartServer, target: str) -> Server:
    return start_server(PRISM_TARGET=target)


@pytest.fixture(scope="session")
def iris_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline trained on named columns, with string labels."""
    iris = load_iris(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(iris.data, iris.target_names[iris.target])
    path = tmp_path_factory.mktemp("models") / "iris.joblib"
    joblib.dump(model, path)
    return path
