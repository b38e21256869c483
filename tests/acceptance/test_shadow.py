"""A shadow of a real model, end to end: it disagrees on some rows, and no caller notices anything of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import joblib
import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner, Result

from prism.cli import app
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = [1.0, 4.0, 6.0, 9.0]
"""Production says `high` above 5, the shadow above 3: they disagree on the second row only."""


def trained(path: Path, bound: float) -> Path:
    values = np.array([[bound - 1], [bound + 1]])
    joblib.dump(DecisionTreeClassifier(random_state=0).fit(values, ["low", "high"]), path)
    return path


@pytest.fixture(scope="module")
def server(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A live version, and another one beside it."""
    folder = tmp_path_factory.mktemp("models")
    server = module_server(PRISM_TARGET="process")
    server.deploy(trained(folder / "five.joblib", 5), model_name="level", version="1.0.0")
    server.deploy(trained(folder / "three.joblib", 3), model_name="level", version="2.0.0", traffic="none")
    return server


def begin(server: Server, **wanted: Any) -> httpx2.Response:
    return server.http.post("/deployments/shadow", json={"name": "level", "production_version": "1.0.0", **wanted})


def report(server: Server) -> dict[str, Any]:
    answer = server.http.get("/monitoring/shadow/level")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ask(server: Server, rounds: int) -> None:
    """Send each row so many times; every answer must be production's."""
    for _ in range(rounds):
        for value in ROWS:
            answer = server.predict("level", {"inputs": [[value]]})
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-model-version"] == "1.0.0"
            assert answer.json()["predictions"] == ["high" if value > 5 else "low"]


def compared(server: Server, count: int) -> dict[str, Any]:
    wait_for(lambda: report(server)["compared"] >= count, 60, f"{count} comparisons")
    return report(server)


def test_a_shadow_is_compared_row_by_row_survives_a_kill_and_is_stopped(server: Server) -> None:
    begun = begin(server, shadow_version="2.0.0")
    assert begun.status_code == 201, begun.text
    id = begun.json()["id"]
    assert (begun.json()["kind"], begun.json()["state"]) == ("shadow", "running")
    assert begun.headers["location"] == f"/deployments/{id}"
    refused = problem(begin(server, shadow_version="2.0.0"))
    assert (refused["status"], refused["rollout"]) == (409, id)

    ask(server, 3)
    found = compared(server, 12)
    assert found["agreement"] == 0.75
    assert (found["copies"]["sent"], found["copies"]["dropped"]) == (12, 0)
    assert len(found["disagreements"]) == 3
    difference = found["disagreements"][0]["differences"][0]
    assert (difference["production"], difference["shadow"], difference["kind"]) == ("low", "high", "label")
    assert found["latency"]["production"]["p50_ms"] > 0
    assert found["latency"]["shadow"]["p50_ms"] > 0

    server.kill()
    server.start()
    wait_for(lambda: server.http.get(f"/deployments/{id}").json()["state"] == "running", 30, "the shadow")
    assert problem(server.http.post("/models/level@2.0.0/stop"))["rollout"] == id
    wait_for(lambda: ask(server, 1) or report(server)["compared"] >= 4, 60, "copies after the restart")
    assert 0 < report(server)["agreement"] < 1

    stopped = server.http.post(f"/api/v1/deployments/{id}/stop").json()
    assert (stopped["state"], stopped["reason"]) == ("done", "stopped")
    assert server.http.post(f"/deployments/{id}/stop").json() == stopped
    events = server.http.get(f"/deployments/{id}/events", params={"follow": "false"}).json()["events"]
    assert [event["what"] for event in events] == ["pending", "running", "done"]
    kept = report(server)
    assert (kept["state"], kept["compared"] >= 4, kept["agreement"] < 1) == ("done", True, True)
    assert kept["disagreements"]
    assert server.http.get("/deployments", params={"name": "level"}).json()["deployments"] == [stopped]
    assert server.predict("level@2.0.0", {"inputs": [[4.0]]}).json()["predictions"] == ["high"], "it runs on beside"


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"shadow_version": "9.0.0"}, 404, "has no version `9.0.0`"),
        ({"name": "levle", "shadow_version": "2.0.0"}, 404, "Did you mean `level`?"),
        ({"shadow_version": "1.0.0"}, 400, "cannot be its own shadow"),
        ({"production_version": "2.0.0", "shadow_version": "1.0.0"}, 400, "cannot be its own shadow"),
        ({}, 400, "shadow_version"),
        ({"shadow_version": "2.0.0", "percentage": 5}, 400, "percentage"),
    ],
)
def test_what_makes_no_sense_is_refused(server: Server, wanted: dict[str, Any], status: int, said: str) -> None:
    refused = problem(begin(server, **wanted))
    assert refused["status"] == status
    assert said in str(refused)


def test_what_is_no_shadow_is_told_as_such(server: Server) -> None:
    assert "Did you mean `level`?" in problem(server.http.get("/monitoring/shadow/levle"))["hint"]
    assert "no rollout `nothing`" in problem(server.http.post("/deployments/nothing/stop"))["detail"]
    canary = server.http.post("/deployments/canary", json={"name": "level", "candidate_version": "2.0.0"}).json()
    try:
        refused = problem(server.http.post(f"/deployments/{canary['id']}/stop"))
        assert "is a canary, which is not stopped" in refused["detail"]
        assert "has an active rollout already: canary" in problem(begin(server, shadow_version="2.0.0"))["detail"]
    finally:
        server.http.post(f"/deployments/canary/{canary['id']}/rollback")


def test_the_commands_of_a_shadow(server: Server) -> None:
    def prism(*arguments: str) -> Result:
        return CliRunner().invoke(app, ("shadow", *arguments), env={"PRISM_URL": server.url})

    begun = prism("start", "level", "--production", "1.0.0", "--shadow", "2.0.0")
    assert begun.exit_code == 0, begun.output
    assert begun.stdout.startswith("level: 2.0.0 is the shadow of 1.0.0, ")
    assert "\nAgreement nothing compared yet\n" in begun.stdout
    wait_for(lambda: report(server)["state"] == "running", 60, "the shadow, which may have to start first")
    ask(server, 2)
    compared(server, 8)
    shown = prism("show", "level").stdout
    assert "Agreement 75.00 % of 8 answers; 0 failed\n" in shown
    assert 'predictions[0]: "low" → "high" (label)' in shown
    assert json.loads(prism("show", "level", "--json").stdout)["compared"] == 8
    stopped = prism("stop", "level")
    assert stopped.stdout.startswith("level: 2.0.0 is the shadow of 1.0.0, done\n")
    assert "prism canary start level --candidate 2.0.0" in stopped.stderr
    refused = prism("show", "levle")
    assert (refused.exit_code, "Did you mean `level`?" in refused.stderr) == (3, True)


@pytest.mark.slow
def test_the_example_runs_as_a_reader_would_run_it(server: Server) -> None:
    def run(example: str) -> list[str]:
        command = [sys.executable, str(EXAMPLES / example)]
        environment = {**os.environ, "PRISM_URL": server.url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    run("register.py")
    told = run("shadow.py")
    assert told[0] == "<Shadow fraud-detector running (2.0.0 beside 1.0.0)>"
    assert told[1].endswith(" of 20 answers agree")
    assert told[-1] == "<Shadow fraud-detector done (2.0.0 beside 1.0.0)>"
