"""Keys, rate limits and the start itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.server import CHECKOUT, problem


def test_with_keys_set_only_the_health_and_the_docs_are_open(start_server: StartServer, iris_file: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_API_KEYS="first-key, second-key")
    for path in ("/", "/health", "/health/monitor", "/docs", "/openapi.json"):
        assert server.http.get(path).status_code == 200, path
    for method, path in (
        ("GET", "/models"),
        ("POST", "/models"),
        ("POST", "/models/upload"),
        ("DELETE", "/models/x"),
        ("POST", "/models/x/predict"),
        ("GET", "/models/x/logs"),
        ("POST", "/models/x/stop"),
        ("GET", "/registry"),
        ("POST", "/registry/prune-stale"),
    ):
        document = problem(server.http.request(method, path, json={}))
        assert document["status"] == 401, path
        assert "X-API-Key" in document["hint"]
    with iris_file.open("rb") as file:
        deployed = server.http.post(
            "/models", files={"file": file}, data={"model_name": "iris"}, headers={"X-API-Key": "first-key"}
        )
    assert deployed.status_code == 201
    for headers in ({"X-API-Key": "second-key"}, {"Authorization": "Bearer first-key"}):
        assert server.http.post("/models/iris/predict", json=ROW, headers=headers).status_code == 200
    assert server.http.post("/models/iris/predict", json=ROW, headers={"X-API-Key": "no"}).status_code == 401
    log = (server.home / "server.log").read_text()
    assert "first-key" not in log


def test_past_the_limit_requests_get_429_with_the_time_to_wait(start_server: StartServer, iris_file: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_RATE_LIMIT_REQUESTS=5, PRISM_RATE_LIMIT_WINDOW_SECONDS=3600)
    server.deploy(iris_file, model_name="iris")
    answers = [server.predict("iris", ROW) for _ in range(7)]
    assert [one.status_code for one in answers] == [200] * 5 + [429] * 2
    assert [one.headers["RateLimit-Remaining"] for one in answers] == ["4", "3", "2", "1", "0", "0", "0"]
    assert int(answers[-1].headers["Retry-After"]) > 0
    problem(answers[-1])


def test_the_owner_on_this_machine_is_not_limited_by_default_and_who_comes_by_a_tunnel_is(
    start_server: StartServer, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_RATE_LIMIT_REQUESTS=None, PRISM_RATE_LIMIT_WINDOW_SECONDS=3600)
    server.deploy(iris_file, model_name="iris")
    model_id = server.http.get("/models/iris").json()["model_id"]
    assert {server.predict("iris", ROW).status_code for _ in range(130)} == {200}
    path = "/models/iris/predict"
    relayed = [server.http.post(path, json=ROW, headers={"X-Forwarded-For": "127.0.0.1"}) for _ in range(121)]
    assert [answer.status_code for answer in relayed] == [200] * 120 + [429]
    page = server.http.post(
        "/predict-result", params={"model_id": model_id}, data={"tab": "json", "json": json.dumps(ROW)}
    )
    assert "setosa" in page.text
    table = ",".join(ROW) + "\n" + ",".join(map(str, ROW.values()))
    sent = {"params": {"model_id": model_id}, "headers": {"Content-Type": "text/csv"}}
    assert "setosa" in server.http.post("/predict-table", content=table, **sent).text
    assert server.predict("iris", ROW).status_code == 200


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PRISM_RATE_LIMIT_REQUESTS", "many"),
        ("PRISM_TARGET", "moon"),
        ("PRISM_HEALTH_MONITOR_INTERVAL_SECONDS", "0"),
        ("PRISM_SINGLE_ACTIVE_MODEL", "perhaps"),
        ("PRISM_API_KEYS", "a,,b"),
        ("PRISM_BASE_IMAGE", "python:{minor}"),
        ("PRISM_HOST", "0.0.0.0"),
        ("PRISM_PORT", "99999"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_clear_line(tmp_path: Path, variable: str, value: str) -> None:
    environ = {**os.environ, "PRISM_HOME": str(tmp_path), variable: value}
    start = subprocess.run(
        [sys.executable, "-m", "app.serve"], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=30
    )
    assert start.returncode == 1
    (line,) = start.stderr.strip().splitlines()
    assert line.startswith("prism: ")
    assert variable in line
    assert (value in line) == (variable != "PRISM_API_KEYS")  # keys are shown nowhere


def test_the_docs_ask_no_other_site_for_anything(module_server: StartServer) -> None:
    server = module_server(PRISM_TARGET="process")
    page = server.http.get("/docs").text
    assert "https://" not in page
    for asset in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert asset.startswith("/")
        assert server.http.get(asset).status_code == 200, asset


def test_open_routes_are_answered_to_head_too_and_keep_to_the_pages_policy(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_ADMIN_KEYS="owner")
    for path in ("/health", "/docs", "/openapi.json", "/static/page.css", "/none", "/models"):
        got, head = server.http.get(path), server.http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-length"] == got.headers["content-length"], path
    docs = server.http.get("/docs").headers
    assert "default-src 'none'" in docs["content-security-policy"]
    assert "unsafe-inline" not in docs["content-security-policy"]
    assert docs["x-content-type-options"] == "nosniff"


def test_a_host_that_is_none_and_an_unknown_expectation_are_told(module_server: StartServer) -> None:
    server = module_server(PRISM_TARGET="process")
    for host, status in (("", 400), ("a b", 400), ("user@localhost", 400), ("localhost/x", 400), ("evil.example", 403)):
        assert problem(server.http.get("/health", headers={"Host": host}))["status"] == status, host
    refused = problem(server.http.get("/health", headers={"Expect": "a-miracle"}))
    assert (refused["status"], refused["code"]) == (417, "expectation_failed")


def test_browsers_get_a_page_and_programs_json(module_server: StartServer, iris_file: Path) -> None:
    server = module_server(PRISM_TARGET="process")
    assert "<h1" in server.http.get("/", headers={"Accept": "text/html"}).text
    server.deploy(iris_file, model_name="<script>alert(1)</script>".replace("/", "_"))
    page = server.http.get("/", headers={"Accept": "text/html,*/*"})
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert server.http.get("/").json()["name"] == "PRISM"
