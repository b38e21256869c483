"""A canary of a real model, end to end: a bad candidate costs no caller an answer, and a kill loses nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem, wait_for

UNSEEN = {"inputs": {"city": ["Rome"]}}
"""A city that no version was trained on: the good one ignores it, the bad one raises."""


def trained(path: Path, handle_unknown: str) -> Path:
    cities = pd.DataFrame({"city": ["Bern", "Oslo", "Bern", "Oslo"]})
    model = make_pipeline(OneHotEncoder(handle_unknown=handle_unknown), LogisticRegression())
    joblib.dump(model.fit(cities, [0, 1, 0, 1]), path)
    return path


@pytest.fixture(scope="module")
def server(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A live model with three versions: good and live, bad and beside, good and beside."""
    folder = tmp_path_factory.mktemp("models")
    server = module_server(PRISM_TARGET="process")
    good, bad = trained(folder / "good.joblib", "ignore"), trained(folder / "bad.joblib", "error")
    server.deploy(good, model_name="city", version="1.0.0")
    server.deploy(bad, model_name="city", version="2.0.0", traffic="none")
    server.deploy(good, model_name="city", version="3.0.0", traffic="none")
    return server


def begin(server: Server, **wanted: Any) -> httpx2.Response:
    return server.http.post("/deployments/canary", json={"name": "city", **wanted})


def rollout(server: Server, id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get(f"/deployments/{id}").json()
    return found


def answering(server: Server, count: int) -> Counter[str]:
    """Send requests; return how many each version answered."""
    answers = [server.predict("city", UNSEEN) for _ in range(count)]
    assert {answer.status_code for answer in answers} == {200}, answers[-1].text
    return Counter(answer.headers["x-model-version"] for answer in answers)


def test_a_bad_candidate_is_rolled_back_and_no_caller_sees_an_error(server: Server) -> None:
    assert problem(server.predict("city@2.0.0", UNSEEN))["status"] >= 400, "it passed its probe, and fails for callers"
    begun = begin(server, candidate_version="2.0.0", initial_percentage=20)
    assert begun.status_code == 201, begun.text
    id = begun.json()["id"]
    assert begun.headers["location"] == f"/deployments/{id}"
    assert (begun.json()["state"], begun.json()["percentage"]) == ("running", 20.0)
    assert problem(begin(server, candidate_version="3.0.0"))["rollout"] == id

    def is_over() -> bool:
        assert set(answering(server, 10)) == {"1.0.0"}
        return rollout(server, id)["state"] == "rolled_back"

    wait_for(is_over, 60, "the rollback")
    ended = rollout(server, id)
    assert "while 1.0.0 answered the same requests; limit 2 %; requests " in ended["reason"]
    assert ended["percentage"] == 0.0
    wait_for(lambda: server.model("city@2.0.0")["status"] == "stopped", 30, "the end of the candidate")
    assert server.model("city")["version"] == "1.0.0"

    events = server.http.get(f"/deployments/{id}/events", params={"follow": "false"}).json()["events"]
    assert [event["what"] for event in events] == ["pending", "step", "rolled_back"]
    assert events[-1]["facts"]["count"] >= 3
    stream = server.http.get(f"/deployments/{id}/events", headers={"Last-Event-ID": "1"}).text
    assert [line for line in stream.splitlines() if line.startswith("event:")] == [
        *("event: alive", "event: step", "event: rolled_back", "event: end"),
    ]
    assert json.loads(stream.split("event: rolled_back\ndata: ")[1].splitlines()[0])["text"] == ended["reason"]
    listed = server.http.get("/api/v1/deployments", params={"name": "city"}).json()["deployments"]
    assert listed[0] == rollout(server, id)
    again = server.http.post(f"/deployments/canary/{id}/rollback").json()
    assert again["generation"] == ended["generation"]


def test_a_canary_survives_a_kill_is_promoted_and_goes_back_in_one_step(server: Server) -> None:
    id = begin(server, candidate_version="3.0.0", initial_percentage=30).json()["id"]
    assert set(answering(server, 20)) == {"1.0.0", "3.0.0"}
    server.kill()
    server.start()
    wait_for(lambda: set(answering(server, 20)) == {"1.0.0", "3.0.0"}, 60, "the same step after a restart")
    assert rollout(server, id)["state"] == "running"
    assert problem(server.http.post("/models/city@3.0.0/stop"))["rollout"] == id

    promoted = server.http.post(f"/deployments/canary/{id}/promote").json()
    assert (promoted["state"], promoted["percentage"]) == ("promoted", 100.0)
    assert set(answering(server, 10)) == {"3.0.0"}
    server.kill()
    server.start()
    assert set(answering(server, 10)) == {"3.0.0"}
    back = server.http.post(f"/api/v1/deployments/canary/{id}/rollback").json()
    assert (back["state"], back["reason"]) == ("rolled_back", "rolled back")
    assert set(answering(server, 10)) == {"1.0.0"}
    wait_for(lambda: server.model("city@3.0.0")["status"] == "stopped", 30, "the end of the candidate")


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"candidate_version": "9.0.0"}, 404, "has no version `9.0.0`"),
        ({"name": "citi", "candidate_version": "2.0.0"}, 404, "Did you mean `city`?"),
        ({"candidate_version": "1.0.0"}, 400, "cannot be its own candidate"),
        ({"candidate_version": "2.0.0", "initial_percentage": 101}, 400, "it was 101"),
        ({"candidate_version": "2.0.0", "steps": [50, 25]}, 400, "must rise"),
        ({"candidate_version": "2.0.0", "auto_rollback_threshold": 2}, 400, "from 0 to 1; it was 2"),
        ({"candidate_version": "2.0.0", "bake_seconds": -1}, 400, "-1 was asked for"),
        ({"candidate_version": "2.0.0", "percent": 5}, 400, "percent"),
        ({}, 400, "candidate_version"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    server: Server, wanted: dict[str, Any], status: int, said: str
) -> None:
    before = server.http.get("/deployments").json()
    refused = problem(begin(server, **wanted))
    assert refused["status"] == status
    assert said in json.dumps(refused, ensure_ascii=False)
    assert server.http.get("/deployments").json() == before


def test_an_unknown_rollout_is_told_as_such(server: Server) -> None:
    for answer in (
        server.http.get("/deployments/nothing"),
        server.http.get("/deployments/nothing/events"),
        server.http.post("/deployments/canary/nothing/promote"),
    ):
        assert "There is no rollout `nothing`" in problem(answer)["detail"]
