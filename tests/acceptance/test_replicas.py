"""Several replicas of a model: all of them answer, and none that comes or goes costs a request."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.html_page import deploy_form, parse, reviewed, submit
from tests.acceptance.replica_models import ROWS, WHO, Callers, archive, becomes, ids
from tests.acceptance.replicas_lab import kill
from tests.acceptance.server import CHECKOUT, Server, problem, wait_for


@pytest.fixture
def process_server(module_server: StartServer, tmp_path: Path) -> Iterator[Server]:
    """One for all of them. What a test deploys as `who` goes with it; a model that is only built keeps the environment."""
    server = module_server(PRISM_TARGET="process", PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=0.5)
    if not server.http.get("/models").json()["models"]:
        built = server.upload(archive(tmp_path, "kept", model_py=WHO), "/models/upload", model_name="kept")
        assert built.status_code == 201, built.text
    yield server
    server.http.delete("/models/who")


def test_three_replicas_answer_and_each_is_shown(start_server: StartServer, target: str, tmp_path: Path) -> None:
    # The environment goes with the model: it is not the one of the server beside it.
    server = start_server(PRISM_TARGET=target, PRISM_ENVIRONMENT_ROOT=tmp_path / "environments")
    document = server.deploy(archive(tmp_path, model_py=WHO), model_name="who", replicas="3")
    assert [one["number"] for one in document["replicas"]] == [1, 2, 3]
    assert len({one["id"] for one in document["replicas"]}) == 3
    assert document["replica"]["id"] == document["replicas"][0]["id"]
    assert document["replicas_wanted"] == 3
    assert document["error"] is None
    with Callers(server, "who") as callers:
        callers.heard(3)
    assert not callers.failures
    assert len(callers.answers) == 3
    shown = server.model("who")
    assert [one["circuit"] for one in shown["replicas"]] == ["closed"] * 3
    assert all(one["memory_bytes"] > 1 << 20 for one in shown["replicas"])
    assert shown["use"]["memory_bytes"] == sum(one["memory_bytes"] for one in shown["replicas"])
    metrics = server.http.get("/metrics").text
    assert metrics.count("prism_replica_circuit_state{") == 3
    removed = server.http.delete("/models/who").json()["removed"]
    assert all(any(one["id"].partition(":")[0] in line for line in removed) for one in document["replicas"])
    assert not server.replica_processes()


@pytest.mark.parametrize("replicas", ["0", "65", "three", "1.5", "-1"])
def test_a_number_that_cannot_be_is_refused_with_the_bounds(
    process_server: Server, tmp_path: Path, replicas: str
) -> None:
    answer = process_server.upload(archive(tmp_path, model_py=WHO), model_name="who", replicas=replicas)
    told = problem(answer)
    assert (answer.status_code, told["field"]) == (400, "replicas")
    assert f"`{replicas}`" in told["detail"]
    assert "1 to 64" in told["detail"]


def test_a_replica_that_is_killed_under_load_costs_no_request_and_is_replaced(
    process_server: Server, tmp_path: Path
) -> None:
    server = process_server
    before = server.deploy(archive(tmp_path, model_py=WHO), model_name="who", replicas="3")["replicas"]
    with Callers(server, "who") as callers:
        callers.heard(3)
        kill(before[1], server)
        wait_for(lambda: before[1]["id"] not in ids(server) or bool(callers.failures), 30, "the lost one's leave")
        callers.more()
        after = becomes(server, 3)
        callers.heard(3)
    assert not callers.failures
    assert {before[0]["id"], before[2]["id"]} < {one["id"] for one in after}
    assert [one["number"] for one in after] == [1, 2, 3]
    (restart,) = server.model("who")["restarts"]
    assert restart["reason"]


def test_more_and_fewer_under_load_cost_no_request(process_server: Server, tmp_path: Path) -> None:
    server = process_server
    server.deploy(archive(tmp_path, model_py=WHO), model_name="who")
    with Callers(server, "who") as callers:
        grown = server.http.patch("/models/who", json={"replicas": 4})
        assert (grown.status_code, len(grown.json()["replicas"])) == (200, 4)
        callers.heard(4)
        shrunk = server.http.patch("/models/who", json={"replicas": 2})
        assert (shrunk.status_code, len(shrunk.json()["replicas"])) == (200, 2)
        callers.more()
        callers.anew()
        callers.more()
        assert len(callers.answers) == 2
    assert not callers.failures
    kept = {one["id"] for one in shrunk.json()["replicas"]}
    assert kept <= {one["id"] for one in grown.json()["replicas"]}
    assert (
        len({process.pid for process in server.replica_processes()} & {one["pid"] for one in grown.json()["replicas"]})
        == 2
    )
    for wrong in ({"replicas": 0}, {"replicas": 65}, {"replicas": "3"}, {"replica": 3}, {}):
        assert problem(server.http.patch("/models/who", json=wrong))["status"] in (400, 422)


def test_a_restart_replaces_one_after_another_and_costs_no_request(process_server: Server, tmp_path: Path) -> None:
    server = process_server
    before = {
        one["id"] for one in server.deploy(archive(tmp_path, model_py=WHO), model_name="who", replicas="3")["replicas"]
    }
    with Callers(server, "who") as callers:
        after = server.http.post("/models/who/restart").json()
        callers.heard(3)
    assert not callers.failures
    assert len(after["replicas"]) == 3
    assert not before & {one["id"] for one in after["replicas"]}


def test_a_killed_gateway_finds_all_its_replicas_again(process_server: Server, tmp_path: Path) -> None:
    server = process_server
    before = server.deploy(archive(tmp_path, model_py=WHO), model_name="who", replicas="3")["replicas"]
    server.kill()
    kill(before[2], server)
    server.start()
    after = becomes(server, 3)
    assert [one["id"] for one in after[:2]] == [one["id"] for one in before[:2]]
    assert after[2]["id"] != before[2]["id"]
    running = {process.pid for process in server.replica_processes()}
    assert {one["pid"] for one in after} <= running
    assert before[2]["pid"] not in running


def test_a_gateway_killed_while_it_scales_loses_nothing_and_leaves_no_stray(
    process_server: Server, tmp_path: Path
) -> None:
    server = process_server
    before = server.deploy(archive(tmp_path, model_py=WHO), model_name="who")["replicas"]
    server.http.patch("/models/who", json={"replicas": 3}, params={"wait": "false"})
    server.kill()
    server.start()
    after = becomes(server, 3)
    assert after[0]["id"] == before[0]["id"]

    def supervisors() -> set[int]:
        processes, found = server.replica_processes(), set()
        ours = {process.pid for process in processes}
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now
                found |= {process.pid} if process.ppid() not in ours else set()
        return found

    wait_for(lambda: supervisors() == {one["pid"] for one in after}, 30, "no stray")


def test_a_record_of_the_version_with_one_replica_is_adopted(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process")
    before = server.deploy(archive(tmp_path, model_py=WHO), model_name="who")["replica"]
    server.kill()
    path = next(server.home.rglob("containers.json"))
    record = json.loads(path.read_text())
    record["format"] = 1
    for one in record["deployments"].values():
        (replica,) = one.pop("replicas")
        del replica["number"]
        one["replica"] = replica
    path.write_text(json.dumps(record))
    for file in server.home.rglob("model.json"):
        parts = json.loads(file.read_text())
        earlier = {**parts["identity"], **parts["spec"], **parts["findings"]}
        del earlier["replicas"]
        file.write_text(json.dumps(earlier))
    server.start()
    assert server.model("who")["replicas"][0]["id"] == before["id"]
    assert server.predict("who", ROWS).status_code == 200


SICK = """
import os, uuid

class Model:
    def load(self):
        self.me, self.sick = uuid.uuid4().hex, False

    def predict(self, rows):
        if any(row == [666] for row in rows):
            self.sick = True
        if self.sick:
            raise RuntimeError("this replica is sick")
        return [self.me for row in rows]
"""


def test_the_circuit_of_the_replica_that_fails_opens_while_the_others_serve(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_HEALTH_MONITOR_INTERVAL_SECONDS=300)
    server.deploy(archive(tmp_path, model_py=SICK), model_name="who", replicas="3")
    assert server.predict("who", [[666]]).status_code == 500

    def opened() -> bool:
        server.predict("who", ROWS)
        return [one["circuit"] != "closed" for one in server.model("who")["replicas"]].count(True) == 1

    wait_for(opened, 30, "the sick replica's circuit")
    began = time.monotonic()
    statuses = [server.predict("who", ROWS).status_code for _ in range(200)]
    trials = time.monotonic() - began + 2  # one a second, and those at the edges
    assert set(statuses) <= {200, 500}
    assert statuses.count(500) <= trials, "the sick one would get a third of them"
    circuits = [one["circuit"] for one in server.model("who")["replicas"]]
    assert circuits.count("closed") == 2
    assert server.model("who")["status"] == "live"


MAY_REFUSE = """
import os, uuid

class Model:
    def load(self):
        if os.path.exists(os.path.join(os.path.dirname(__file__), "full")):
            raise RuntimeError("no place is left")
        self.me = uuid.uuid4().hex

    def predict(self, rows):
        return [self.me for row in rows]
"""


def test_those_that_do_not_start_leave_the_others_live_are_told_and_come_later(
    process_server: Server, tmp_path: Path
) -> None:
    server = process_server
    server.deploy(archive(tmp_path, model_py=MAY_REFUSE), model_name="who")
    folder = server.home / "model_store" / "uploads" / server.model("who")["model_id"]
    code = folder / "artifact" / "model" / "model.py"
    full = code.with_name("full")
    full.touch()
    document = server.http.patch("/models/who", json={"replicas": 3}).json()
    assert document["status"] == "live"
    assert (len(document["replicas"]), document["replicas_wanted"]) == (1, 3)
    assert "1 of 3 replicas serve" in document["error"]["detail"]
    assert "no place is left" in document["error"]["detail"]
    page = server.http.get("/", headers={"Accept": "text/html"}).text
    assert "serves with 1 of 3 replicas" in page
    assert server.predict("who", ROWS).status_code == 200
    full.unlink()
    becomes(server, 3)


def test_each_replicas_log_is_told_apart(process_server: Server, tmp_path: Path) -> None:
    server = process_server
    says = WHO.replace("self.me = uuid.uuid4().hex", "self.me = uuid.uuid4().hex; print('I am', self.me, flush=True)")
    server.deploy(archive(tmp_path, model_py=says), model_name="who", replicas="2")
    both = server.http.get("/models/who/logs").text
    assert "[1] I am " in both
    assert "[2] I am " in both
    second = server.http.get("/models/who/logs", params={"replica": 2}).text
    assert second.count("I am ") == 1
    assert "[2]" not in second
    assert f"[2] {next(line for line in second.splitlines() if 'I am' in line)}" in both


def test_a_log_that_is_followed_goes_on_with_the_replica_that_takes_the_place_of_another(
    process_server: Server, tmp_path: Path
) -> None:
    server = process_server
    says = WHO.replace("self.me = uuid.uuid4().hex", "self.me = uuid.uuid4().hex; print('I am', self.me, flush=True)")
    before = server.deploy(archive(tmp_path, model_py=says), model_name="who", replicas="2")["replicas"]
    lines: list[str] = []
    over = threading.Event()

    def follow() -> None:
        with server.http.stream("GET", "/models/who/logs", params={"follow": "true"}) as stream:
            for line in stream.iter_lines():
                lines.append(line)
        over.set()

    thread = threading.Thread(target=follow)
    thread.start()

    def said(number: int) -> int:
        return sum(line.startswith(f"data: [{number}] I am ") for line in lines)

    try:
        wait_for(lambda: (said(1), said(2)) == (1, 1), 30, f"what both said ({lines})")
        kill(before[1], server)
        wait_for(lambda: said(2) == 2, 30, "what the next one says")
        server.http.patch("/models/who", json={"replicas": 3})
        wait_for(lambda: said(3) == 1, 30, "what the third one says")
        assert said(1) == 1
    finally:
        server.http.post("/models/who/stop")
        thread.join(30)
    assert over.is_set(), "the stream ends with the model"


def test_a_models_page_lists_its_replicas_and_changes_their_number(process_server: Server, tmp_path: Path) -> None:
    server = process_server
    model = server.deploy(archive(tmp_path, model_py=WHO), model_name="who", replicas="2")
    place = f"/model?model_id={model['model_id']}"
    page = server.http.get(place, headers={"Accept": "text/html"}).text
    assert "2 of 2" in page
    assert all(f">{one['pid']}<" in page for one in model["replicas"])
    assert "· 2 of 2 replicas" in server.http.get("/", headers={"Accept": "text/html"}).text
    scaled = server.http.post(f"/models-ui/{model['model_id']}/scale", data={"replicas": "3"})
    assert (scaled.status_code, scaled.headers["location"]) == (303, place)
    becomes(server, 3)
    assert "3 of 3" in server.http.get(place, headers={"Accept": "text/html"}).text
    assert server.http.post(f"/models-ui/{model['model_id']}/scale", data={"replicas": "many"}).status_code == 400


def test_the_upload_page_takes_a_number_and_tells_on_its_field_where_that_cannot_be(
    process_server: Server, tmp_path: Path
) -> None:
    server = process_server
    shown = reviewed(server, "who.zip", archive(tmp_path, model_py=WHO).read_bytes())
    wrong = submit(server, deploy_form(shown), replicas="99")
    assert wrong.status_code == 400
    assert "1 to 64" in parse(wrong).one("div", id="replicas-wrong").text
    assert parse(wrong).one("input", id="replicas").attributes["value"] == "99"
    assert submit(server, deploy_form(shown), replicas="2").status_code == 303
    becomes(server, 2)


def test_the_command_line_pushes_scales_and_shows_replicas(process_server: Server, tmp_path: Path) -> None:
    server = process_server

    def prism(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prism.cli", *arguments, "--url", server.url]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)

    pushed = prism("push", str(archive(tmp_path, model_py=WHO)), "--name", "who", "--replicas", "2")
    assert pushed.returncode == 0, pushed.stderr
    assert len(ids(server)) == 2
    shown = prism("models", "show", "who").stdout
    assert shown.count("process ") >= 2
    assert shown.count("closed") == 2
    scaled = prism("models", "scale", "who", "3")
    assert (scaled.returncode, scaled.stdout.strip()) == (0, "who@1.0.0 is live, replicas: 3.")
    (listed,) = (line for line in prism("models", "ls").stdout.splitlines() if line.startswith("who "))
    assert " 3 " in listed
    logs = prism("models", "logs", "who", "--replica", "2")
    assert logs.returncode == 0
    assert "[2]" not in logs.stdout
    refused = prism("models", "scale", "who", "65")
    assert refused.returncode not in (0, 4)
    assert "1 to 64" in refused.stderr
    prism("models", "stop", "who")
    assert "2 once it is started" in prism("models", "scale", "who", "2").stdout
    assert "who@1.0.0 is live" in prism("models", "start", "who").stdout
    assert len(ids(server)) == 2
