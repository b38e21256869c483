"""Whether an engine answers, asked without docker-py."""

from __future__ import annotations

import http.server
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.docker import engine as docker_engine
from app.runtime.docker.engine import Engine, engine_answers


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "PING_SECONDS", 30.0)


class Pong(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {"/_ping": b"OK", "/containers/json": b"[{}]" if "busy" in self.path else b"[]"}
        body = answers.get(self.path.partition("?")[0])
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def unix_engine(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "e.sock")
    with socketserver.UnixStreamServer(path, Pong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


def test_an_engine_behind_a_unix_socket_is_found(unix_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", unix_engine)
    assert engine_answers()


def test_an_engine_behind_tcp_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Pong) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        assert engine_answers()
        thread.join()


@pytest.mark.parametrize("url", ["unix:///nowhere.sock", "tcp://127.0.0.1:1", "ssh://me@host", "nonsense", "tcp://[::"])
def test_without_an_engine_availability_is_false(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", url)
    assert not engine_answers()


def test_a_machine_without_an_engine_never_imports_docker_py() -> None:
    code = (
        "import sys; import app.runtime.docker.target; from app.runtime.docker.engine import engine_answers; engine_answers();"
        " sys.exit('docker' in sys.modules or 'requests' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


async def test_one_plain_request_shows_that_an_engine_has_no_prism_containers(
    unix_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", unix_engine)
    assert await Engine().has_none(["prism.home=idle"])
    assert not await Engine().has_none(["prism.home=busy"])


async def test_an_engine_that_does_not_answer_does_not_count_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert not await Engine().has_none(["prism.home=idle"])
