"""The runtime as it really runs: a process of its own, reached over a Unix socket or TCP."""

from __future__ import annotations

import http.client
import json
import pickle
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model_container.contract.config import VARIABLE, Confinement, RuntimeConfig
from model_container.contract.frames import (
    PROTOCOL,
    WELCOME,
    Request,
    decode_answers,
    encode_requests,
)
from tests.acceptance.server import free_port, wait_for
from tests.integration.runtime_lab import DEADLINE_SECONDS, PROGRAM, TOKEN, Connection

BODY = b'{"features": [[1.5, 0, 0, 0]]}'

SLOW_CODE = '''
import pathlib
import time


class Slow:
    """Writes a file when a prediction begins, and takes until another one is there."""

    n_features_in_ = 1

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def predict(self, rows):
        (self.folder / "begun").touch()
        deadline = time.monotonic() + 20
        while not (self.folder / "go on").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return [int(row[0]) for row in rows]
'''


class Runtimes:
    """Starts runtimes and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "runtime.sock")
        self._started: list[subprocess.Popen[bytes]] = []
        self._opened: list[Connection] = []

    def start(self, artifact: Path, **values: Any) -> subprocess.Popen[bytes]:
        given = {"artifact": str(artifact), "format": "pickle", "socket": self.socket, "token": TOKEN}
        config = RuntimeConfig(**{**given, "confinement": Confinement(), **values})
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(PROGRAM)], env={VARIABLE: config.to_json()}, stdout=log, stderr=log
            )
        self._started.append(process)
        return process

    def open(self, **values: Any) -> Connection:
        """A connection that has said HELLO."""
        connection = Connection(self.socket, **values)
        self._opened.append(connection)
        return connection

    def connect(self) -> Connection:
        """A connection that is welcome."""
        connection = self.open()
        assert connection.receive().kind == WELCOME
        return connection

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self) -> None:
        for connection in self._opened:
            connection.socket.close()
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def runtimes(tmp_path: Path) -> Iterator[Runtimes]:
    started = Runtimes(tmp_path)
    yield started
    started.end()


@pytest.fixture(scope="module")
def model() -> LogisticRegression:
    matrix = np.random.default_rng(0).normal(size=(60, 4))
    return LogisticRegression().fit(matrix, np.where(matrix[:, 0] > 0, "up", "down"))


@pytest.fixture
def artifact(tmp_path: Path, model: LogisticRegression) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    return path


@pytest.fixture
def negative(tmp_path: Path) -> Path:
    """A model that is quick to load: a function of numpy."""
    path = tmp_path / "negative.pkl"
    path.write_bytes(pickle.dumps(np.negative))
    return path


@pytest.fixture
def slow(tmp_path: Path, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[bytes]:
    """A running model of a class that was defined in `__main__`, and whose code came beside it."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "owners.py").write_text(SLOW_CODE)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(SLOW_CODE, namespace)
    monkeypatch.setattr(sys.modules["__main__"], "Slow", namespace["Slow"], raising=False)
    path = tmp_path / "slow.pkl"
    path.write_bytes(pickle.dumps(namespace["Slow"](str(tmp_path))))
    return runtimes.start(path, code=str(code))


def test_a_runtime_sends_its_handshake_and_predicts(runtimes: Runtimes, artifact: Path) -> None:
    runtimes.start(artifact)
    connection = runtimes.open()
    welcome = json.loads(connection.receive().payload)
    assert welcome["protocol"] == PROTOCOL
    assert welcome["adapter"] == "pickle"
    assert welcome["signature"]["classes"] == ["down", "up"]
    assert {"scikit-learn", "numpy"} <= welcome["libraries"].keys()
    assert isinstance(welcome["confinement"], dict)
    good, bad, sample = connection.predict(BODY, b"nonsense", json.dumps(welcome["samples"][0]).encode())
    assert json.loads(good.body) == {"predictions": ["up"]}
    assert (bad.status, sample.status) == (400, 200)
    assert stat.S_IMODE(Path(runtimes.socket).stat().st_mode) == 0o600


def test_a_wrong_token_closes_the_connection(runtimes: Runtimes, negative: Path) -> None:
    runtimes.start(negative)
    for wrong in (runtimes.open(token="guess"), runtimes.open(protocol=99)):
        with pytest.raises(EOFError):
            wrong.receive()
    assert runtimes.connect().predict(BODY)[0].status == 200


def test_bytes_that_are_neither_a_frame_nor_http_close_the_connection(runtimes: Runtimes, negative: Path) -> None:
    runtimes.start(negative)
    connection = runtimes.connect()
    connection.send(b"\xff" * 64)
    with pytest.raises(EOFError):
        connection.receive()
    assert runtimes.connect().predict(BODY)[0].status == 200


def test_a_stale_socket_is_replaced(runtimes: Runtimes, negative: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(runtimes.socket)
    runtimes.start(negative)
    assert runtimes.connect().predict(BODY)[0].status == 200


def test_pings_are_answered_while_the_model_computes(
    runtimes: Runtimes, slow: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    busy, pings = runtimes.connect(), runtimes.connect()
    assert pings.ping()["busy_ms"] == 0
    busy.send(encode_requests(7, [Request(b"[[5]]")]))
    wait_for((tmp_path / "begun").exists, DEADLINE_SECONDS, "the model to begin")
    pulse = pings.ping()
    assert pulse["busy_ms"] > 0
    assert pulse["served"] == 0
    assert pulse["rss_bytes"] > 1 << 20
    (tmp_path / "go on").touch()
    assert decode_answers(busy.receive())[0][0][0] == b'{"predictions":[5]}'
    assert pings.ping()["served"] == 1


def test_sigterm_finishes_received_requests_and_exits_with_0(
    runtimes: Runtimes, slow: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    first, second = runtimes.connect(), runtimes.connect()
    first.send(encode_requests(7, [Request(b"[[5]]")]))
    wait_for((tmp_path / "begun").exists, DEADLINE_SECONDS, "the model to begin")
    second.send(encode_requests(8, [Request(b"[[6]]")]))
    slow.send_signal(signal.SIGTERM)
    (tmp_path / "go on").touch()
    assert decode_answers(first.receive())[0][0][0] == b'{"predictions":[5]}'
    assert decode_answers(second.receive())[0][0][0] == b'{"predictions":[6]}'
    assert slow.wait(DEADLINE_SECONDS) == 0
    assert not Path(runtimes.socket).exists()


def test_a_model_that_does_not_load_says_why_in_its_last_line(runtimes: Runtimes, tmp_path: Path) -> None:
    path = tmp_path / "broken.pkl"
    path.write_bytes(b"cno_such_library\nEstimator\n.")
    assert runtimes.start(path).wait(DEADLINE_SECONDS) == 3
    last = runtimes.log().splitlines()[-1].partition(" ")[2]  # behind the time
    assert last == "prism: the model did not load: ModuleNotFoundError: No module named 'no_such_library'"


def test_an_invalid_configuration_ends_the_start_with_one_line(runtimes: Runtimes, negative: Path) -> None:
    assert runtimes.start(negative, socket="").wait(DEADLINE_SECONDS) == 2
    (line,) = runtimes.log().splitlines()
    assert line.endswith("Z prism: the runtime cannot start: neither a socket nor a port to listen on is configured")


@pytest.fixture
def port() -> int:
    return free_port()


def call(
    port: int, method: str, path: str, body: bytes = b"", token: str = TOKEN, **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, body or None, {"Authorization": f"Bearer {token}", **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_it_also_answers_plain_http(runtimes: Runtimes, artifact: Path, port: int) -> None:
    runtimes.start(artifact, port=port)
    runtimes.connect()
    assert call(port, "GET", "/health") == (200, {"status": "ok"})
    assert call(port, "POST", "/predict", BODY) == (200, {"predictions": ["up"]})
    status, answer = call(port, "POST", "/predict?probabilities=true", BODY)
    assert (status, answer["classes"]) == (200, ["down", "up"])
    assert call(port, "GET", "/")[1]["signature"]["methods"] == ["predict", "predict_proba"]


def test_http_errors_are_problem_documents(runtimes: Runtimes, negative: Path, port: int) -> None:
    runtimes.start(negative, port=port)
    runtimes.connect()
    assert call(port, "GET", "/nothing")[1]["code"] == "not_found"
    assert call(port, "GET", "/predict")[1]["code"] == "method_not_allowed"
    assert call(port, "POST", "/predict", BODY, token="guess")[1]["code"] == "unauthorized"
    status, problem = call(port, "POST", "/predict", b"{")
    assert (status, problem["status"], problem["code"]) == (400, 400, "not_json")
    status, problem = call(port, "POST", "/predict", BODY, **{"Content-Length": str(1 << 40)})
    assert (status, problem["code"]) == (413, "too_large")


def test_a_model_that_does_not_predict_is_not_healthy(runtimes: Runtimes, tmp_path: Path, port: int) -> None:
    path = tmp_path / "unfitted.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression()))
    runtimes.start(path, port=port)
    runtimes.connect()
    status, problem = call(port, "GET", "/health")
    assert (status, problem["code"]) == (503, "unhealthy")
    assert "not fitted" in problem["detail"]
