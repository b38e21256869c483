"""Kills, freezes, crashes and replacements: the models go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.replica_models import archive
from tests.acceptance.server import Server, wait_for

pytestmark = pytest.mark.slow

PAUSE_SECONDS = 0.02
"""Between two predictions, so that the load leaves the machine to the replacements."""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model without packages, whose replicas start at once: what becomes of them does not depend on what they compute."""
    return archive(tmp_path, model_py="class Model:\n    def predict(self, rows):\n        return [1 for _ in rows]\n")


class Load:
    """Predictions, one after the other, from a thread; every answer's status is kept."""

    def __init__(self, server: Server, ref: str = "iris") -> None:
        self._url = f"{server.url}/models/{ref}/predict"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.outcomes: list[tuple[int, str]] = []

    def _run(self) -> None:
        with httpx2.Client(timeout=30, trust_env=False) as http:
            while not self._stop.is_set():
                try:
                    answer = http.post(self._url, json=ROW)
                    self.outcomes.append((answer.status_code, answer.text if answer.status_code != 200 else ""))
                except httpx2.TransportError as error:
                    self.outcomes.append((0, repr(error)))
                time.sleep(PAUSE_SECONDS)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> list[tuple[int, str]]:
        return [one for one in self.outcomes if one[0] != 200]


def replica_pid(server: Server, target: str) -> int:
    """The process of the host that computes for the model."""
    pid = int(server.model("iris")["replica"]["pid"])
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return max(family, key=lambda each: each.memory_info().rss).pid


def answers(server: Server) -> bool:
    return server.predict("iris", ROW).status_code == 200


def test_a_gateway_killed_and_started_again_adopts_its_replica_within_two_seconds(
    start_server: StartServer, target: str, model_file: Path
) -> None:
    server, empty = start_server(PRISM_TARGET=target), start_server(PRISM_TARGET=target)
    before = server.deploy(model_file, model_name="iris")
    took, took_empty = [], []
    for _ in range(3):
        empty.kill()
        took_empty.append(empty.start())
        server.kill()
        seconds = server.start()
        began = time.monotonic()
        assert answers(server)
        took.append(seconds + time.monotonic() - began)
        assert server.model("iris")["replica"] == before["replica"], "not one replica was restarted"
    # The interpreter's own start included, which on a busy machine is most of it.
    assert min(took) < max(4, 2 * min(took_empty)), (took, took_empty)


def test_a_replica_that_is_killed_comes_back_and_says_why(
    start_server: StartServer, target: str, model_file: Path
) -> None:
    server = start_server(PRISM_TARGET=target, PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=1)
    server.deploy(model_file, model_name="iris")
    os.kill(replica_pid(server, target), signal.SIGKILL)
    began = time.monotonic()
    while not answers(server):
        assert time.monotonic() - began < 60
        answer = server.predict("iris", ROW)
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
        time.sleep(0.05)
    (restart,) = server.model("iris")["restarts"]
    assert restart["reason"]
    assert server.http.get("/registry").json()["entries"][0]["restarts"] == [restart]


def test_a_frozen_replica_is_replaced_and_the_next_one_answers_what_it_had(
    start_server: StartServer, target: str, model_file: Path
) -> None:
    server = start_server(
        PRISM_TARGET=target, PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=60, PRISM_HEARTBEAT_TIMEOUT_SECONDS=3
    )
    server.deploy(model_file, model_name="iris")
    frozen = replica_pid(server, target)
    os.kill(frozen, signal.SIGSTOP)
    began = time.monotonic()
    assert server.predict("iris", ROW).status_code == 200
    assert time.monotonic() - began < 20, "a prediction may take 30 s"
    wait_for(lambda: answers(server), 60, "the replacement")
    wait_for(lambda: not psutil.pid_exists(frozen), 30, "the end of the frozen process")


def test_a_replica_frozen_without_traffic_is_found_by_the_monitor(start_server: StartServer, model_file: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=0.5)
    before = server.deploy(model_file, model_name="iris")["replica"]["id"]
    os.kill(replica_pid(server, "process"), signal.SIGSTOP)
    wait_for(lambda: (server.model("iris")["replica"] or {"id": before})["id"] != before, 60, "the replacement")

    def monitor() -> dict[str, Any]:
        document: dict[str, Any] = server.http.get("/health/monitor").json()
        return document

    assert monitor()["running"]
    wait_for(lambda: monitor()["last_cycle"]["healthy"] == 1, 30, "a cycle that found the replacement healthy")


def test_stopping_the_server_leaves_nothing_running_and_the_next_start_brings_the_model_back(
    start_server: StartServer, target: str, model_file: Path
) -> None:
    server = start_server(PRISM_TARGET=target)
    server.deploy(model_file, model_name="iris")
    pid = replica_pid(server, target)
    server.stop()
    assert not psutil.pid_exists(pid)
    assert not server.replica_processes()
    server.start()
    wait_for(lambda: answers(server), 60, "the model's coming back")


def test_stopping_the_server_may_keep_the_models(start_server: StartServer, target: str, model_file: Path) -> None:
    server = start_server(PRISM_TARGET=target)
    before = server.deploy(model_file, model_name="iris")["replica"]
    pid = replica_pid(server, target)
    server.stop(signal.SIGUSR2)
    assert psutil.pid_exists(pid)
    server.start()
    assert answers(server)
    assert server.model("iris")["replica"] == before


def test_twenty_replacements_under_load_without_a_failed_request(start_server: StartServer, model_file: Path) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(model_file, model_name="iris")
    with Load(server) as load, Load(server) as second:
        versions = [server.deploy(model_file, model_name="iris")["version"] for _ in range(20)]
    assert versions[-1] == "1.20.0"
    assert load.failures == second.failures == []
    assert len(load.outcomes) > 200
    live = [model for model in server.http.get("/models").json()["models"] if model["status"] == "live"]
    assert [model["version"] for model in live] == ["1.20.0"]
    wait_for(lambda: len(folders(server)) <= 1, 30, "the end of the old replicas")


def folders(server: Server) -> set[str]:
    """In which replicas work now."""
    found = set()
    for one in server.replica_processes():
        with contextlib.suppress(psutil.Error):  # it ends just now
            found.add(one.cwd())
    return found


@pytest.mark.docker
def test_replacements_under_load_on_docker_fail_no_request(start_server: StartServer, iris_file: Path) -> None:
    server = start_server(PRISM_TARGET="docker")
    server.deploy(iris_file, model_name="iris")
    with Load(server) as load:
        for _ in range(3):
            server.deploy(iris_file, model_name="iris")
        server.http.post("/models/iris/restart")
    assert load.failures == []


def test_a_replacement_that_fails_its_probe_never_takes_traffic(start_server: StartServer, iris_file: Path) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(iris_file, model_name="iris")
    with Load(server) as load:
        answer = server.upload(iris_file, model_name="iris", expected_input_json='{"wrong": 1}')
    assert answer.status_code == 422
    assert answer.json()["code"] == "probe_failed"
    assert "wrong" in answer.json()["detail"]
    assert load.failures == []
    assert server.predict("iris", ROW).json()["version"] == "1.0.0"


def test_many_models_live_side_by_side_where_that_is_wanted(start_server: StartServer, model_file: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    for name in ("one", "two"):
        server.deploy(model_file, model_name=name)
    assert [server.predict(name, ROW).status_code for name in ("one", "two")] == [200, 200]
    server.deploy(model_file, model_name="one")
    assert server.predict("one", ROW).json()["version"] == "1.1.0"
    assert server.predict("two", ROW).status_code == 200
    assert server.predict("one@1.0.0", ROW).status_code == 409


def test_a_corrupt_registry_is_set_aside_and_rebuilt_from_what_runs(
    start_server: StartServer, target: str, model_file: Path
) -> None:
    server = start_server(PRISM_TARGET=target)
    before = server.deploy(model_file, model_name="iris")
    server.kill()
    registry = server.home / "app" / "registry" / "containers.json"
    registry.write_text('{"deployments": {"torn')
    server.start()
    assert answers(server)
    assert server.model("iris")["replica"]["id"] == before["replica"]["id"]
    (aside,) = registry.parent.glob("containers.json.corrupt-*")
    assert aside.read_text() == '{"deployments": {"torn'
