"""A link to a model: over a real OpenSSH server on loopback, and over ngrok as far as one gets without its service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, problem, wait_for
from tests.integration.ngrok_stand_in import write_agent
from tests.integration.sshd import Sshd, alive, ssh_clients

ROW = {"input": [5.1, 3.5, 1.4, 0.2]}
Prism = Callable[..., subprocess.CompletedProcess[str]]
ADMIN = [
    ("GET", "/"),
    ("GET", "/models"),
    ("POST", "/models/upload-and-run"),
    ("DELETE", "/models/iris"),
    ("POST", "/models/iris/stop"),
    ("GET", "/models/iris/logs"),
    ("GET", "/registry"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("GET", "/share"),
    ("DELETE", "/share"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/settings"),
    ("GET", "/upload-model"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    host = Sshd(tmp_path_factory.mktemp("sshd"))
    host.start()
    yield host
    host.stop()


@pytest.fixture
def sshd(host: Sshd) -> Iterator[Sshd]:
    """The host to forward from, as it was when the test is over."""
    files = [host.known_hosts, host.folder / "authorized_keys"]
    before = [file.read_text() for file in files]
    yield host
    for file, text in zip(files, before, strict=True):
        file.write_text(text)


@pytest.fixture(scope="module")
def lasting_server(
    tmp_path_factory: pytest.TempPathFactory, environments: Path, host: Sshd, iris_file: Path
) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process", **host.settings())
    server.start()
    server.deploy(iris_file, model_name="iris")
    yield server
    server.stop()


@pytest.fixture
def server(lasting_server: Server, sshd: Sshd) -> Iterator[Server]:
    """With one live model. Nobody needs a key at its own door; there is none, and nothing is shared."""
    yield lasting_server
    lasting_server.http.delete("/share")
    for key in lasting_server.http.get("/keys").json()["keys"]:
        lasting_server.http.delete(f"/keys/{key['id']}")


@pytest.fixture
def own_server(start_server: StartServer, sshd: Sshd, iris_file: Path) -> Server:
    """As `server`, for a test that ends it."""
    server = start_server(PRISM_TARGET="process", **sshd.settings())
    server.deploy(iris_file, model_name="iris")
    return server


def share(server: Server, **wanted: object) -> dict[str, Any]:
    answer = server.http.post("/share", json=wanted)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def far(url: str, method: str = "POST", key: str = "", **options: Any) -> httpx2.Response:
    """As somebody elsewhere, who knows nothing but the link."""
    headers = {"X-API-Key": key} if key else {}
    return httpx2.request(method, url, headers=headers, timeout=20, trust_env=False, **options)


def state(server: Server) -> str:
    return str(server.http.get("/share").json()["state"])


def share_file(server: Server) -> Path:
    return server.home / "app" / "registry" / "share.json"


@pytest.mark.sshd
def test_a_model_is_asked_through_the_link_with_the_key_that_was_made_for_it(server: Server) -> None:
    shared = share(server, models=["iris"], create_key=True)
    key, url = shared["key"]["key"], shared["models"][0]["public_url"]
    assert (shared["state"], shared["kind"], shared["open"], shared["warning"]) == ("on", "ssh", False, None)
    assert url == f"{shared['url']}/models/iris/predict"

    assert far(url, key=key, json=ROW).json()["predictions"] == ["setosa"]
    assert far(url, json=ROW).status_code == 401
    assert far(url, key="prism_wrong", json=ROW).status_code == 401

    now = server.http.get("/share").json()
    assert "key" not in now
    assert key not in share_file(server).read_text()
    assert server.model("iris")["public_url"] == url
    assert [entry["public_url"] for entry in server.http.get("/registry").json()["entries"]] == [url]


@pytest.mark.sshd
def test_nothing_of_the_admin_surface_is_behind_the_link(server: Server) -> None:
    shared = share(server, create_key=True)
    key = shared["key"]["key"]
    found = {(method, path): far(shared["url"] + path, method, key=key).status_code for method, path in ADMIN}
    assert {where: status for where, status in found.items() if status not in (404, 405)} == {}


@pytest.mark.sshd
def test_without_a_key_it_is_shared_only_by_who_says_so(server: Server) -> None:
    refused = server.http.post("/share", json={"models": ["iris"]})
    told = problem(refused)
    assert (refused.status_code, told["code"]) == (409, "consent_needed")
    assert "--create-key" in told["hint"]
    assert "`--open`" in told["hint"]
    assert state(server) == "off"

    shared = share(server, open=True)
    assert shared["open"] is True
    assert far(shared["models"][0]["public_url"], json=ROW).json()["predictions"] == ["setosa"]


@pytest.mark.sshd
def test_a_revoked_key_opens_nothing_any_more(server: Server) -> None:
    shared = share(server, create_key=True)
    key, url = shared["key"], shared["models"][0]["public_url"]
    assert far(url, key=key["key"], json=ROW).status_code == 200
    assert server.http.delete(f"/keys/{key['id']}").status_code == 200
    assert far(url, key=key["key"], json=ROW).status_code == 401


@pytest.mark.sshd
def test_what_is_withdrawn_or_deleted_cannot_be_reached_any_more(
    start_server: StartServer, sshd: Sshd, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false", **sshd.settings())
    for name in ("iris", "wine"):
        server.deploy(iris_file, model_name=name)
    undecided = server.http.post("/share", json={"open": True})
    assert undecided.status_code == 400
    assert "iris, wine" in problem(undecided)["detail"]

    shared = share(server, models=["iris", "wine"], open=True)
    urls = {model["name"]: model["public_url"] for model in shared["models"]}
    assert {far(url, json=ROW).status_code for url in urls.values()} == {200}

    assert server.http.delete("/share/iris").json()["models"] == [{"name": "wine", "public_url": urls["wine"]}]
    assert far(urls["iris"], json=ROW).status_code == 404
    assert far(urls["wine"], json=ROW).status_code == 200
    assert server.model("iris")["public_url"] is None

    server.http.delete("/models/wine")
    assert state(server) == "off"
    with pytest.raises(httpx2.TransportError):
        far(urls["wine"], json=ROW)
    assert not share_file(server).exists()
    wait_for(lambda: not ssh_clients(sshd.port), 30, "the end of ssh")


@pytest.mark.sshd
def test_what_is_not_there_or_not_live_cannot_be_shared(server: Server) -> None:
    assert server.http.post("/share", json={"models": ["nobody"], "open": True}).status_code == 404
    assert server.http.post("/share", json={"model": "iris"}).status_code == 400
    assert server.http.post("/share", json={"create_key": True, "open": True}).status_code == 400
    server.http.post("/models/iris/stop")
    try:
        stopped = problem(server.http.post("/share", json={"models": ["iris"], "open": True}))
        assert stopped["code"] == "conflict"
        assert "prism models start iris" in stopped["hint"]
        assert problem(server.http.post("/share", json={"open": True}))["code"] == "conflict"
    finally:
        server.http.post("/models/iris/start")


@pytest.mark.sshd
def test_a_cut_connection_is_opened_again_by_itself(server: Server, sshd: Sshd) -> None:
    before = share(server, open=True)
    sshd.known_hosts.write_text("")  # so that it stays cut while it is looked at
    sshd.cut()
    wait_for(lambda: state(server) == "reconnecting", 30, "noticing that it is cut")
    down = server.http.get("/share").json()
    assert down["url"] is None
    assert down["error"]["code"] == "tunnel_failed"
    assert server.model("iris")["public_url"] is None

    sshd.trust(sshd.folder / "host_key.pub")
    wait_for(lambda: state(server) == "on", 60, "opening it again")
    after = server.http.get("/share").json()
    assert after["error"] is None
    assert json.loads(share_file(server).read_text())["status"]["url"] == after["url"]
    assert far(after["models"][0]["public_url"], json=ROW).status_code == 200
    assert after["since"] == before["since"]


@pytest.mark.sshd
def test_a_killed_server_leaves_no_tunnel_and_the_next_one_no_trace_of_it(own_server: Server, sshd: Sshd) -> None:
    server = own_server
    shared = share(server, open=True)
    wait_for(lambda: len(ssh_clients(sshd.port)) == 2, 30, "nothing but ssh and the leash around it")
    server.kill()
    wait_for(lambda: not ssh_clients(sshd.port), 30, "the end of ssh")
    with pytest.raises(httpx2.TransportError):
        far(shared["models"][0]["public_url"], json=ROW)
    assert share_file(server).exists()

    server.start()
    assert state(server) == "off"
    assert not share_file(server).exists()
    wait_for(lambda: server.model("iris")["status"] == "live", 60, "the model's return")
    assert server.model("iris")["public_url"] is None
    assert not ssh_clients(sshd.port)
    assert share(server, open=True)["state"] == "on"


@pytest.mark.sshd
def test_a_server_that_ends_ends_the_sharing(own_server: Server, sshd: Sshd) -> None:
    share(own_server, open=True)
    own_server.stop()
    wait_for(lambda: not ssh_clients(sshd.port), 30, "the end of ssh")
    assert not share_file(own_server).exists()


@pytest.mark.sshd
def test_enable_tunnel_shares_what_is_live_from_the_start_on(
    start_server: StartServer, sshd: Sshd, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="process", ENABLE_TUNNEL="true", PRISM_API_KEYS="the-key", **sshd.settings())
    server.http.headers["X-API-Key"] = "the-key"
    assert state(server) == "off"
    server.deploy(iris_file, model_name="iris")
    wait_for(lambda: state(server) == "on", 60, "the sharing of the first model")
    assert far(server.model("iris")["public_url"], key="the-key", json=ROW).status_code == 200

    server.stop()
    server.http.headers["X-API-Key"] = "the-key"
    server.start()
    wait_for(lambda: state(server) == "on", 60, "the sharing after a restart")


@pytest.mark.sshd
def test_enable_tunnel_is_no_consent_to_share_without_a_key(
    start_server: StartServer, sshd: Sshd, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="process", ENABLE_TUNNEL="true", **sshd.settings())
    server.deploy(iris_file, model_name="iris")
    refused = server.http.get("/share").json()
    assert (refused["state"], refused["error"]["code"]) == ("failed", "consent_needed")
    wait_for(lambda: not ssh_clients(sshd.port), 30, "the end of what an earlier test had")


@pytest.mark.sshd
def test_a_host_that_refuses_is_told_with_the_next_step(server: Server, sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    refused = server.http.post("/share", json={"open": True})
    told = problem(refused)
    assert (refused.status_code, told["code"], told["reason"]) == (502, "tunnel_failed", "host_key_unknown")
    assert told["hint"]
    now = server.http.get("/share").json()
    assert (now["state"], now["models"], now["error"]["reason"]) == ("failed", [], "host_key_unknown")


def test_ngrok_without_a_token_and_without_a_network_are_two_messages(
    start_server: StartServer, iris_file: Path, tmp_path: Path
) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_TUNNEL="ngrok", NGROK_AUTHTOKEN="")
    server.deploy(iris_file, model_name="iris")
    told = problem(server.http.post("/share", json={"open": True}))
    assert told["reason"] == "no_token"
    assert "NGROK_AUTHTOKEN" in told["detail"]

    token = "2abc_a_token_that_must_not_be_seen"
    # A proxy that is not there shuts the network where there is one.
    shut = {"https_proxy": "http://127.0.0.1:9", "PYNGROK_NGROK_PATH": str(tmp_path / "ngrok")}
    server.stop()
    server.environ |= {"NGROK_AUTHTOKEN": token, **shut}
    server.start()
    wait_for(lambda: server.model("iris")["status"] == "live", 60, "the model's return")
    answer = server.http.post("/share", json={"open": True})
    told = problem(answer)
    assert told["reason"] == "network_blocked"
    assert "PRISM_TUNNEL=ssh://" in told["hint"]
    for text in (answer.text, server.http.get("/share").text, server.log()):
        assert token not in text


def test_a_killed_server_leaves_neither_the_ngrok_worker_nor_its_agent(
    start_server: StartServer, iris_file: Path, tmp_path: Path
) -> None:
    """The agent is a stand-in."""
    report = tmp_path / "report.json"
    agent = tmp_path / "ngrok"
    write_agent(agent, "works", report)
    server = start_server(
        PRISM_TARGET="process",
        PRISM_TUNNEL="ngrok",
        NGROK_AUTHTOKEN="a-token",
        PYNGROK_NGROK_PATH=agent,
    )
    server.deploy(iris_file, model_name="iris")
    shared = share(server, create_key=True)
    assert (shared["kind"], shared["url"]) == ("ngrok", "https://stand-in.ngrok.app")
    worker = int(json.loads(share_file(server).read_text())["worker"]["id"].split(":")[0])
    pids = [worker, json.loads(report.read_text())["pid"]]
    assert all(alive(pid) for pid in pids)

    server.kill()
    wait_for(lambda: not any(alive(pid) for pid in pids), 30, "the end of worker and agent")
    server.start()
    assert state(server) == "off"
    assert not share_file(server).exists()


@pytest.fixture
def prism(server: Server) -> Prism:
    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PRISM_URL": server.url, "PRISM_HOME": str(server.home), **settings}
        command = [sys.executable, "-m", "prism.cli", *arguments]
        return subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.sshd
def test_the_command_line_shares_shows_and_stops(prism: Prism) -> None:
    refused = prism("share", "start")
    assert refused.returncode == 1
    assert "--create-key" in refused.stderr
    assert "--open" in refused.stderr
    assert prism("share", "start", "--create-key", "--open").returncode == 2
    assert prism("share", "start", "nobody", "--open").returncode == 3

    started = prism("share", "start", "iris", "--create-key")
    assert started.returncode == 0, started.stderr
    key = re.search(r"shown only once: (\S+)", started.stdout)
    assert key is not None
    curl = started.stdout.strip().splitlines()[-1]
    asked = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout)["model"] == "iris"

    status = prism("share", "status")
    assert (status.returncode, key[1] in status.stdout) == (0, False)
    assert "It needs an API key." in status.stdout
    told = json.loads(prism("share", "status", "--json").stdout)
    assert told["models"][0]["public_url"] in curl

    stopped = prism("share", "stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Nothing is shared.\n")
    assert prism("share", "stop", "iris").returncode == 0


@pytest.mark.sshd
def test_a_share_without_a_key_has_a_line_to_copy_without_one(prism: Prism) -> None:
    started = prism("share", "start", "--open")
    curl = started.stdout.strip().splitlines()[-1]
    assert "X-API-Key" not in curl
    asked = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout)["model"] == "iris"


@pytest.mark.sshd
def test_a_failed_share_is_exit_code_1_and_then_4_with_the_next_step(prism: Prism, sshd: Sshd) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    failed = prism("share", "start", "--open")
    assert failed.returncode == 1
    assert "does not accept this user or key" in failed.stderr
    assert "authorized_keys" in failed.stderr
    status = prism("share", "status")
    assert status.returncode == 4
    assert "does not accept this user or key" in status.stderr


@pytest.mark.sshd
async def test_the_sdk_shares_in_both_its_forms(server: Server) -> None:
    from prism import AsyncPrism, Prism, errors

    with Prism(server.url, max_retries=0) as client:
        with pytest.raises(errors.ConsentNeededError, match="nobody has consented"):
            client.share("iris")
        shared = client.share(create_key=True)
        assert shared.key is not None
        assert client.share_status().key is None
        url = shared.models[0].public_url
        assert client.models.get("iris").public_url == url
    async with AsyncPrism(server.url) as other:
        assert (await other.share_status()).url == shared.url
        again = await other.share("iris")
        assert (again.key, again.models[0].public_url) == (None, url)
        assert (await other.stop_share("iris")).state == "off"
        assert (await other.stop_share()).state == "off"


def post(server: Server, path: str, **fields: str) -> httpx2.Response:
    return server.http.post(path, data=fields, headers={"Accept": "text/html"}, follow_redirects=False)


@pytest.mark.sshd
def test_the_page_shares_without_javascript_and_shows_the_key_once(server: Server) -> None:
    model_id = server.model("iris")["model_id"]
    shown = post(server, f"/share-ui/{model_id}", access="key")
    assert shown.status_code == 200
    assert "<!doctype html>" in shown.text
    key = re.search(r'id="share-key">([^<]+)<', shown.text)
    url = re.search(r'id="share-url"[^>]*>([^<]+)<', shown.text)
    assert key is not None
    assert url is not None
    assert far(unescape(url[1]), key=key[1], json=ROW).status_code == 200

    page = server.http.get("/model", params={"model_id": model_id}, headers={"Accept": "text/html"})
    assert url[1] in page.text
    assert key[1] not in page.text

    stopped = post(server, f"/share-ui/{model_id}/stop")
    assert (stopped.status_code, stopped.headers["location"]) == (303, f"/model?model_id={model_id}")
    assert state(server) == "off"


@pytest.mark.sshd
def test_the_page_without_a_key_goes_back_to_the_model(server: Server) -> None:
    model_id = server.model("iris")["model_id"]
    shown = post(server, f"/share-ui/{model_id}", access="open")
    assert (shown.status_code, shown.headers["location"]) == (303, f"/model?model_id={model_id}")
    assert server.http.get("/share").json()["open"] is True


@pytest.mark.sshd
def test_htmx_gets_the_panel_alone_and_an_error_in_it(server: Server, sshd: Sshd) -> None:
    model_id = server.model("iris")["model_id"]
    part = {"HX-Request": "true"}
    sshd.known_hosts.write_text("")
    failed = server.http.post(f"/share-ui/{model_id}", data={"access": "open"}, headers=part)
    assert failed.status_code == 502
    assert failed.text.lstrip().startswith("<section")
    assert "is not trusted yet" in unescape(failed.text)
    assert 'role="alert"' in failed.text
    panel = server.http.get(f"/share-ui/{model_id}", headers=part)
    assert panel.text.lstrip().startswith("<section")
    assert server.http.get(f"/share-ui/{model_id}", follow_redirects=False).status_code == 303
