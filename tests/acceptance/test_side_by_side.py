"""One model is live at a time unless its owner says otherwise, and whoever would stop another learns it first."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from prism import Prism
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server

SAMPLE = CHECKOUT / "model_store" / "samples" / "iris" / "iris.onnx"


@pytest.fixture(scope="module")
def server(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process")


def push(server: Server, name: str, *options: str) -> tuple[list[str], str]:
    """Push the sample under a name; returns the lines of standard error, and standard output."""
    command = [sys.executable, "-m", "prism.cli", "push", str(SAMPLE), "--name", name, "--url", server.url, *options]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines(), done.stdout


def live(server: Server) -> set[str]:
    return {model["ref"] for model in server.http.get("/models").json()["models"] if model["status"] == "live"}


def test_a_push_names_what_it_stops_before_it_does_and_keep_is_remembered(server: Server) -> None:
    told, _ = push(server, "first")
    assert not any("stops" in line for line in told)
    told, result = push(server, "second")
    assert "Once second is live, this stops first@1.0.0" in told[0], "before anything is sent"
    assert "--keep" in told[0]
    assert "Stopped: first@1.0.0" in result
    assert live(server) == {"second@1.0.0"}

    told, _ = push(server, "third", "--keep")
    assert not any("stops" in line for line in told)
    assert live(server) == {"second@1.0.0", "third@1.0.0"}
    with Prism(server.url) as client:
        assert client.replacement("x/third.onnx").stops == []
        assert client.replacement(name="third").replaces == ["third@1.0.0"]
        assert client.replacement(name="third", keep=False).stops == ["second@1.0.0"]
        again = client.deploy(SAMPLE, name="third")
        assert (again.keep, again.stops) == (True, [])
        assert live(server) == {"second@1.0.0", "third@1.1.0"}
        seen: list[list[str]] = []
        fourth = client.deploy(SAMPLE, name="fourth", on_status=lambda model: seen.append(model.stops))
        assert seen[0] == fourth.stops == ["second@1.0.0"], "third is kept beside whatever comes"
        assert live(server) == {"third@1.1.0", "fourth@1.0.0"}
        assert client.models.get("fourth").stops == ["second@1.0.0"]


def test_what_a_start_stops_is_known_before_and_keep_is_recorded(server: Server) -> None:
    with Prism(server.url) as client:
        for name in ("before", "after"):
            client.deploy(SAMPLE, name=name, keep=False)
        assert "before@1.0.0" not in live(server)
        assert client.models.replacement("after").stops == [], "it serves"
        assert client.models.replacement("before").stops == ["after@1.0.0"]
        assert client.models.replacement("before", keep=True).stops == []
        assert client.models.start("before", keep=True).keep
        assert live(server) >= {"before@1.0.0", "after@1.0.0"}
        client.models.stop("before")
        assert client.models.replacement("before").kept


def test_a_failed_version_under_a_newer_live_one_is_history_and_deleted_with_others_at_once(server: Server) -> None:
    page = {"Accept": "text/html"}
    for _ in range(2):
        with SAMPLE.open("rb") as file:
            failed = server.http.post(
                "/models", files={"file": file}, data={"model_name": "last", "expected_input_json": '{"input": [1]}'}
            )
        assert failed.status_code == 422, failed.text
    dashboard = server.http.get("/", headers=page).text
    assert "last@2.0.0 failed, and 1 earlier version" in dashboard
    assert len(server.http.get("/health").json()["failed"]) == 2

    push(server, "last")
    assert server.http.get("/health").json()["failed"] == []
    assert "Needs attention" not in server.http.get("/", headers=page).text
    environ = [sys.executable, "-m", "prism.cli", "status", "--url", server.url]
    status = subprocess.run(environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert status.returncode == 0
    assert "Failed versions that newer ones have replaced: 2" in status.stdout
    assert "last@1.0.0" not in status.stdout
    choice = server.http.get("/delete-models", headers=page).text
    history = re.findall(r'value="(\w+)" checked', choice)
    assert len(history) == 2
    live_one = server.http.get("/models/last").json()["model_id"]
    assert server.http.post("/delete-models", data={"model_id": [*history, live_one]}).status_code == 409
    assert server.http.post("/delete-models", data={"model_id": history}).status_code == 303
    assert [model["version"] for model in server.http.get("/models").json()["models"] if model["name"] == "last"] == [
        "2.1.0"
    ]
