"""Candidates of every bad kind under load, gateways that are killed, and versions that are broken on purpose."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from scripts.benchmark.canaries import FAULTS, GOOD, NAME, OWN_FAULTS, STABLE, Canaries, Load
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, problem, wait_for

pytestmark = pytest.mark.slow

RUNS = 2
KILLS = 4
KILL_WITHIN_SECONDS = 0.06
SLOW_TO_TELL = ("500, 50 %", "500, 10 %")
"""Left to the script: they show nothing that others do not, and take longer."""

SURE = {"auto_rollback_threshold": 0.02, "overdue_ms": 700}
"""On a busy machine, the bound that is derived from the stable version's own latencies may be long."""


@pytest.fixture(scope="module")
def server(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = module_server(PRISM_TARGET="process")
    folder = tmp_path_factory.mktemp("versions")
    for version in OWN_FAULTS:
        if version in (STABLE, *(fault.version for fault in FAULTS.values())):
            Canaries(server.http).deploy(folder, version)
    return server


def chaos(server: Server, **wanted: object) -> dict[str, object]:
    answer = server.http.post(f"/models/{NAME}/chaos", json=wanted)
    assert answer.status_code == 201, answer.text
    document: dict[str, object] = answer.json()
    return document


def test_no_candidate_however_bad_costs_a_caller_an_answer(server: Server) -> None:
    canaries = Canaries(server.http)
    with Load(server.url) as load:
        for what, fault in FAULTS.items():
            for _ in range(0 if what in SLOW_TO_TELL else RUNS):
                ended = canaries.until_rolled_back(fault, **SURE)
                assert f"while {STABLE} answered the same requests; limit 2 %" in ended.reason, what
    assert not load.failures
    assert load.result is not None
    assert load.result.successes > 100


def test_whole_lives_of_versions_under_load_fail_no_request(server: Server, tmp_path: Path) -> None:
    canaries = Canaries(server.http)
    with Load(server.url) as load:
        for _ in range(RUNS):
            canaries.whole_life(tmp_path)
    assert not load.failures


def test_requests_are_split_within_three_of_exact_while_a_canary_is_judged(server: Server) -> None:
    canaries = Canaries(server.http)
    rollout_id = canaries.begin(GOOD, bake_seconds=3600)
    bodies = '{"features": [{"amount": 0}]}'
    counts = Counter(
        server.http.post(f"/models/{NAME}/predict", content=bodies).headers["x-model-version"] for _ in range(2_000)
    )
    assert abs(counts[GOOD] - 100) <= 3
    canaries.command(rollout_id, "rollback")
    canaries.wait_for_stop(GOOD)


def test_a_gateway_killed_in_a_promotion_or_rollback_has_one_state_and_one_version_later(server: Server) -> None:
    random, canaries = Random(12), Canaries(server.http)
    for number in range(KILLS):
        command = ("promote", "rollback")[number % 2]
        state = canaries.killed_in(command, server, random.uniform(0, KILL_WITHIN_SECONDS))
        assert state in {"promote": ("running", "promoted"), "rollback": ("promoted", "rolled_back")}[command]


def test_chaos_is_seen_and_over_by_itself(server: Server) -> None:
    begun = chaos(server, errors=1.0, seconds=60)
    assert (begun["active"], begun["text"]) == (True, "100% of its answers are errors")
    page = server.http.get("/model", params={"model_id": str(begun["model_id"])}).text
    assert "Broken on purpose: 100% of its answers are errors" in page
    assert problem(server.predict(NAME, {"features": [{"amount": 0}]}))["code"] == "chaos"
    chaos(server, errors=1.0, seconds=0.2)
    wait_for(lambda: not server.http.get(f"/models/{NAME}/chaos").json()["active"], 30, "the end of chaos")
    assert Canaries(server.http).answering() == STABLE
    assert "Broken on purpose" not in server.http.get("/model", params={"model_id": str(begun["model_id"])}).text


@pytest.mark.parametrize("wanted", [{}, {"hang": True, "kill": True}, {"errors": 2}, {"hang": True, "seconds": 601}])
def test_chaos_that_makes_no_sense_or_lasts_too_long_is_refused(server: Server, wanted: dict[str, object]) -> None:
    assert problem(server.http.post(f"/models/{NAME}/chaos", json=wanted))["status"] == 400
    assert not server.http.get(f"/models/{NAME}/chaos").json()["active"]


def test_a_stopped_version_cannot_be_broken(server: Server) -> None:
    refused = problem(server.http.post(f"/models/{NAME}@{GOOD}/chaos", json={"hang": True}))
    assert (refused["status"], f"prism models start {NAME}@{GOOD}" in refused["hint"]) == (409, True)


def test_killed_replicas_are_real_and_replaced(server: Server) -> None:
    before = [replica["id"] for replica in server.model(NAME)["replicas"]]
    chaos(server, kill=True, seconds=1)

    def is_replaced() -> bool:
        model = server.model(NAME)
        ids = [replica["id"] for replica in model["replicas"]]
        return model["status"] == "live" and bool(ids) and not set(ids) & set(before)

    wait_for(is_replaced, 60, "another replica")
    assert Canaries(server.http).answering() == STABLE


def test_the_command_breaks_a_version_and_mends_it(server: Server) -> None:
    def prism(*words: str) -> str:
        command = [sys.executable, "-m", "prism.cli", "chaos", NAME, *words, "--url", server.url]
        return subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout

    assert f"{NAME}@{STABLE}: its answers are nonsense, for " in prism("--nonsense", "--for", "60")
    assert server.predict(NAME, {"features": [{"amount": 2}]}).json()["predictions"] == [None]
    assert f"{NAME}@{STABLE}: nothing is broken on purpose" in prism("--end")
    assert server.predict(NAME, {"features": [{"amount": 2}]}).json()["predictions"] == [5.0]
