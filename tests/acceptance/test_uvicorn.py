"""The server in the foreground, started by uvicorn's own command: `uvicorn app.main:app`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.iris import ROW
from tests.acceptance.server import CHECKOUT, Server, wait_for

RESTART_SECONDS = 120
StartUvicorn = Callable[..., Server]


@pytest.fixture
def start_uvicorn(tmp_path: Path, environments: Path) -> Iterator[StartUvicorn]:
    servers: list[Server] = []

    def start(*options: str) -> Server:
        server = Server(tmp_path, environments, PRISM_TARGET="process")
        server.command = uvicorn("--host", "127.0.0.1", "--port", str(server.port), *options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


def uvicorn(*options: str) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "app.main:app", *options]


def failed_start(home: Path, **settings: str) -> str:
    """What uvicorn says when the application refuses to start."""
    environ = {**os.environ, "PRISM_HOME": str(home), "PRISM_TARGET": "process", **settings}
    ended = subprocess.run(
        uvicorn("--port", "0"), cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode not in (0, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "prism: " in line]
    return line


def test_it_deploys_and_predicts_and_a_signal_ends_it_with_its_streams_and_models(
    start_uvicorn: StartUvicorn, iris_file: Path
) -> None:
    server = start_uvicorn()
    server.deploy(iris_file, model_name="iris")
    answer = server.predict("iris", ROW)
    assert answer.json()["predictions"] == ["setosa"]
    assert answer.headers["X-Request-ID"]
    assert server.http.get("/health/monitor").json()["enabled"] is True
    assert server.replica_processes()
    assert server.process is not None
    with server.http.stream("GET", "/models/iris/logs", params={"follow": "true"}) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        assert "data: closing" in list(lines)
    assert server.process.wait(60) in (0, -signal.SIGTERM)
    assert "Application shutdown complete" in server.log()
    assert "Traceback" not in server.log()
    assert not server.replica_processes()


def test_a_reload_brings_back_what_was_live(start_uvicorn: StartUvicorn, iris_file: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "watched.py").write_text("first = True\n")
    server = start_uvicorn("--reload", "--reload-dir", str(code))
    server.deploy(iris_file, model_name="iris")
    started = "Application startup complete"
    times = iter(range(2**31, 2**32))

    def is_seen_to_change() -> bool:
        os.utime(code / "watched.py", (next(times),) * 2)
        return "Reloading" in server.log()

    wait_for(is_seen_to_change, RESTART_SECONDS, "the change to be seen")
    wait_for(lambda: server.log().count(started) == 2, RESTART_SECONDS, "the server's second start")
    wait_for(lambda: server.predict("iris", ROW).status_code == 200, RESTART_SECONDS, "the model to be live again")
    server.stop()
    assert not server.replica_processes()
    assert "Traceback" not in server.log()


def test_a_second_server_on_the_same_registry_is_refused_in_one_sentence(
    start_uvicorn: StartUvicorn, tmp_path: Path
) -> None:
    server = start_uvicorn()
    assert server.process is not None
    told = failed_start(tmp_path)
    assert f"Another PRISM server (process {server.process.pid}) uses the registry" in told


@pytest.mark.parametrize(("variable", "value"), [("PRISM_TARGET", "moon"), ("PRISM_HOST", "0.0.0.0")])
def test_a_bad_setting_stops_the_start_with_one_sentence(tmp_path: Path, variable: str, value: str) -> None:
    told = failed_start(tmp_path, **{variable: value})
    assert variable in told
    assert value in told


def test_importing_the_application_reads_no_setting_and_writes_nothing(tmp_path: Path) -> None:
    environ = {**os.environ, "PRISM_HOME": str(tmp_path), "PRISM_TARGET": "moon"}
    subprocess.run([sys.executable, "-c", "from app.main import app"], cwd=CHECKOUT, env=environ, check=True)
    assert not list(tmp_path.iterdir())
