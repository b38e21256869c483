"""Requests that end or hang the replica that works on them: their caller is told why, and nobody else pays for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.replica_models import ROWS, Callers, archive, becomes
from tests.acceptance.server import Server, problem, wait_for

pytestmark = pytest.mark.slow

FRAGILE = """
import os, time, uuid

class Model:
    def load(self):
        self.me = uuid.uuid4().hex

    def predict(self, rows):
        if ["exit"] in rows:
            os._exit(3)
        if ["memory"] in rows:
            for _ in range(3):  # each within what one process may have, all of them far beyond what a replica may
                if not os.fork():
                    hoard = bytearray(b"x") * (300 << 20)
                    time.sleep(600)
            time.sleep(600)
        while ["endless"] in rows:
            pass
        if ["bug"] in rows:
            raise AttributeError("'NoneType' object has no attribute 'lower'")
        time.sleep(0.003)
        return [self.me for row in rows]
"""
ENDLESS_SECONDS, SECONDS = 15.0, 60.0
"""That a request may take. What does not come to an end takes them all; in the other cases they are enough for the starts
of replicas on a busy machine, for which those that were lost together wait."""


@pytest.fixture
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    is_endless = "endless" in request.node.callspec.params.values() if hasattr(request.node, "callspec") else False
    return start_server(
        PRISM_TARGET="process",
        PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=0.5,
        PRISM_PREDICT_TIMEOUT_SECONDS=ENDLESS_SECONDS if is_endless else SECONDS,
        PRISM_MODEL_MEMORY_MB=512,
        PRISM_BATCH_WINDOW_MS=20,
    )


@pytest.mark.parametrize(
    ("poison", "code", "cause"),
    [
        ("exit", "model_crashed", "exited with code 3"),
        ("memory", "model_crashed", "out of memory"),
        ("endless", "replica_timeout", "did not finish"),
    ],
)
def test_with_two_replicas_one_poison_costs_no_other_request(
    server: Server, tmp_path: Path, poison: str, code: str, cause: str
) -> None:
    server.deploy(archive(tmp_path, model_py=FRAGILE), model_name="who", replicas="2", expected_input_json="[[1]]")
    with Callers(server, "who") as callers:
        answer = server.predict("who", [[poison]])
        wait_for(lambda: bool(server.model("who")["restarts"]) or bool(callers.failures), 30, "the lost one's end")
        callers.more(200)
        becomes(server, 2)
        callers.heard(2)  # no longer at work on what has no end
    assert not callers.failures
    told = problem(answer)
    assert told["code"] == code
    assert cause in told["detail"]
    assert "Try again" not in told.get("hint", "")
    assert "Retry-After" not in answer.headers
    assert 1 <= len(server.model("who")["restarts"]) <= 2


@pytest.mark.parametrize(("poison", "cause"), [("exit", "exited with code 3"), ("memory", "out of memory")])
def test_with_one_replica_the_others_wait_for_the_next_one(
    server: Server, tmp_path: Path, poison: str, cause: str
) -> None:
    server.deploy(archive(tmp_path, model_py=FRAGILE), model_name="who", expected_input_json="[[1]]")
    with Callers(server, "who") as callers:
        answer = server.predict("who", [[poison]])
        callers.more(200)
    assert not callers.failures
    told = problem(answer)
    assert (told["code"], told["status"]) == ("model_crashed", 500)
    assert cause in told["detail"]
    assert 1 <= len(server.model("who")["restarts"]) <= 2


def test_requests_that_fail_in_the_model_take_it_from_nobody(server: Server, tmp_path: Path) -> None:
    server.deploy(archive(tmp_path, model_py=FRAGILE), model_name="who", expected_input_json="[[1]]")
    for _ in range(12):
        assert problem(server.predict("who", [["bug"]]))["code"] == "model_error"
        assert server.model("who")["replicas"][0]["circuit"] == "closed"
    assert server.predict("who", ROWS).status_code == 200
