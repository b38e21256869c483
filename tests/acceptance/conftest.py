"""Servers and model files for the acceptance tests."""

from __future__ import annotations

import os
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
    """The folder of the environments that all servers of this process share, so that each is built once.

    A server removes an environment with the last of its own models that needs it, so no two servers may run at once
    with models in the same environment: each worker has its own folder. Only the bytecode in it is that of all workers, so
    that the same packages are compiled once.
    """
    folder, base = tmp_path_factory.mktemp("environments"), tmp_path_factory.getbasetemp()
    bytecode = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "bytecode"
    bytecode.mkdir(exist_ok=True, mode=0o700)
    (folder / "bytecode").symlink_to(bytecode, target_is_directory=True)
    return folder


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def target(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it runs on both targets."""
    name: str = request.param
    return name


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[StartServer]:
    """Starts servers with the given settings, and ends them. Environments stay, for the tests that follow."""
    servers: list[Server] = []

    def start(**settings: object) -> Server:
        server = Server(tmp_path_factory.mktemp("home"), environments, **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        if not server.runs:
            server.start()  # it was killed: its replicas are stopped by one that finds them
        server.stop()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[StartServer]:
    """Gives out one server for each set of settings, for the tests of a module that leave each other alone.

    It ends with the module. One that a test ended is started again.
    """
    servers: dict[tuple[tuple[str, object], ...], Server] = {}

    def give(**settings: object) -> Server:
        key = tuple(sorted(settings.items()))
        if key not in servers:
            servers[key] = Server(tmp_path_factory.mktemp("home"), environments, **settings)
        if not servers[key].runs:
            servers[key].start()
        return servers[key]

    yield give
    for server in servers.values():
        if not server.runs:
            server.start()  # it was killed: its replicas are stopped by one that finds them
        server.stop()


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
