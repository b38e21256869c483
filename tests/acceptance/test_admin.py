"""Who may do what on a real server: admin keys, API keys, keys made at run time, and browsers that logged in."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.server import CHECKOUT, Server, problem

ADMIN = {"X-API-Key": "an-admin-key"}
API = {"X-API-Key": "an-api-key"}


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(PRISM_TARGET="process", PRISM_ADMIN_KEYS="an-admin-key", PRISM_API_KEYS="an-api-key")


def deploy(server: Server, file: Path, headers: dict[str, str]) -> httpx2.Response:
    with file.open("rb") as opened:
        return server.http.post("/models", files={"file": opened}, data={"model_name": "iris"}, headers=headers)


def test_an_admin_deploys_an_api_key_predicts_and_a_made_key_lives_until_it_is_revoked(
    server: Server, iris_file: Path
) -> None:
    assert problem(deploy(server, iris_file, {}))["status"] == 401
    assert problem(deploy(server, iris_file, API))["status"] == 403
    assert deploy(server, iris_file, ADMIN).status_code == 201
    for headers, status in ((ADMIN, 200), (API, 200), ({}, 401)):
        assert server.http.post("/models/iris/predict", json=ROW, headers=headers).status_code == status
    assert server.http.get("/models/iris", headers=API).json()["status"] == "live"
    problem(server.http.post("/models/iris/stop", headers=API))

    made = server.http.post("/keys", json={"name": "billing"}, headers=ADMIN).json()
    kept = {"X-API-Key": made["key"]}
    for headers in (API, kept):
        assert problem(server.http.get("/keys", headers=headers))["status"] == 403
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body, plain = json.dumps(ROW), {"Content-Type": "application/json", **kept}
    local_port = None
    for _ in range(3):  # the second is let in by its remembered head
        connection.request("POST", "/models/iris/predict", body, plain)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        local_port = local_port or connection.sock.getsockname()[1]
    assert server.http.delete(f"/keys/{made['id']}", headers=ADMIN).status_code == 200
    connection.request("POST", "/models/iris/predict", body, plain)
    assert connection.sock.getsockname()[1] == local_port, "the connection was kept"
    assert connection.getresponse().status == 401
    connection.close()

    another = server.http.post("/keys", json={"name": "after a restart"}, headers=ADMIN).json()["key"]
    server.stop()
    server.start()
    assert server.http.get("/models", headers={"X-API-Key": another}).status_code == 200
    assert server.http.get("/models", headers=kept).status_code == 401
    for secret in ("an-admin-key", "an-api-key", made["key"], another):
        assert secret not in server.log()


def test_the_command_line_makes_and_revokes_keys(server: Server) -> None:
    def prism(*arguments: str, key: str = "an-admin-key") -> subprocess.CompletedProcess[str]:
        environ = {**server.environ, "PRISM_URL": server.url, "PRISM_API_KEY": key}
        command = [sys.executable, "-m", "prism.cli", *arguments]
        return subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60)

    made = prism("keys", "create", "billing")
    key = made.stdout.strip()
    assert made.returncode == 0, made.stderr
    assert server.http.get("/models", headers={"X-API-Key": key}).status_code == 200
    (entry,) = json.loads(prism("keys", "ls", "--json").stdout)["keys"]
    assert (entry["name"], entry["hint"]) == ("billing", key[-4:])
    assert key not in prism("keys", "ls").stdout
    assert prism("keys", "create", "x", key="an-api-key").returncode == 5
    assert prism("keys", "revoke", entry["id"]).returncode == 0
    assert prism("keys", "revoke", entry["id"]).returncode == 3
    assert server.http.get("/models", headers={"X-API-Key": key}).status_code == 401


def test_a_browser_logs_in_deploys_and_logs_out(server: Server, iris_file: Path) -> None:
    browser = httpx2.Client(base_url=server.url, headers={"Accept": "text/html"}, trust_env=False, timeout=60)
    origin = {"Origin": server.url}
    led = browser.get("/settings")
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=/settings")
    wrong = browser.post("/login", data={"key": "an-api-key", "next": "/settings"}, headers=origin)
    assert (wrong.status_code, 'aria-invalid="true"' in wrong.text) == (401, True)
    right = browser.post("/login", data={"key": "an-admin-key", "next": "/settings"}, headers=origin)
    assert (right.status_code, right.headers["location"]) == (303, "/settings")
    assert browser.get("/settings").status_code == 200
    with iris_file.open("rb") as file:
        forged = browser.post("/models", files={"file": file}, headers={"Accept": "*/*"})
    assert problem(forged)["status"] == 403
    with iris_file.open("rb") as file:
        deployed = browser.post("/models", files={"file": file}, headers={"Accept": "*/*", **origin})
    assert deployed.status_code == 201
    assert browser.post("/logout", headers=origin).status_code == 303
    assert browser.get("/").status_code == 303
    browser.close()


def test_a_page_on_another_site_can_neither_deploy_nor_read_by_the_visitor_s_browser(
    start_server: StartServer, iris_file: Path
) -> None:
    """Also where no key is set: it comes from this machine, and means no good."""
    server = start_server(PRISM_TARGET="process")
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        with iris_file.open("rb") as file:
            assert problem(server.http.post("/models", files={"file": file}, headers=headers))["status"] == 403
        for path in ("/", "/models", "/keys", "/login", "/settings"):
            assert server.http.get(path, headers=headers).status_code == 403
    assert server.http.get("/models").json()["models"] == []


@pytest.mark.parametrize("settings", [{}, {"PRISM_API_KEYS": "an-api-key"}])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_off_loopback_it_refuses_to_start_without_admin_keys(
    tmp_path: Path, settings: dict[str, str], host: str
) -> None:
    environ = {**os.environ, "PRISM_HOME": str(tmp_path), "PRISM_HOST": host, "PRISM_PORT": "0", **settings}
    start = subprocess.run(
        [sys.executable, "-m", "app.serve"], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=30
    )
    assert start.returncode == 1
    (line,) = start.stderr.strip().splitlines()
    assert f"PRISM_HOST={host}" in line
    assert "Set PRISM_ADMIN_KEYS" in line


def test_off_loopback_it_starts_with_an_admin_key_and_asks_for_it(start_server: StartServer) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_HOST="0.0.0.0", PRISM_ADMIN_KEYS="an-admin-key")
    with socket.create_connection(("127.0.0.1", server.port)):
        pass
    assert server.http.get("/models").status_code == 401
    assert server.http.get("/models", headers=ADMIN).status_code == 200
