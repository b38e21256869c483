"""What is reached through a tunnel of a real server, by raw sockets: one shared model, and nothing of its owner's."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.integration.sshd import Sshd

pytestmark = pytest.mark.sshd
ADMIN = {"X-API-Key": "an-admin-key"}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def lasting_server(module_server: StartServer, sshd: Sshd, iris_file: Path) -> Server:
    settings = {"PRISM_TARGET": "process", "PRISM_ADMIN_KEYS": "an-admin-key", "PRISM_SINGLE_ACTIVE_MODEL": "false"}
    server = module_server(**settings, **sshd.settings())
    for name in ("iris", "private"):
        with iris_file.open("rb") as file:
            answer = server.http.post("/models", files={"file": file}, data={"model_name": name}, headers=ADMIN)
        assert answer.status_code == 201, answer.text
    return server


@pytest.fixture
def server(lasting_server: Server) -> Iterator[Server]:
    """Server with two live models, `iris` and `private`, and a host to forward from; nothing is shared, there is no key."""
    yield lasting_server
    lasting_server.http.delete("/share", headers=ADMIN)
    for key in lasting_server.http.get("/keys", headers=ADMIN).json()["keys"]:
        lasting_server.http.delete(f"/keys/{key['id']}", headers=ADMIN)


def share(server: Server) -> tuple[str, int, str]:
    """Share `iris`; the host and port at which the tunnel ends, and the key that was made for it."""
    answer = server.http.post("/share", json={"models": ["iris"], "create_key": True}, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    url = urlsplit(answer.json()["url"])
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port, answer.json()["key"]["key"]


def listener(server: Server) -> int:
    """The port on loopback to which the tunnel leads."""
    assert server.process is not None
    ports = {
        one.laddr.port
        for one in psutil.Process(server.process.pid).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.ip == "127.0.0.1"
    }
    (port,) = ports - {server.port}
    return port


def said(place: tuple[str, int], request: str) -> tuple[int, str]:
    """The status and all of what is answered to these bytes. The request must end the connection."""
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while block := connection.recv(1 << 16):
            answer += block
    return int(answer.split(b" ", 2)[1]), answer.decode()


def admin_routes(server: Server) -> list[tuple[str, str]]:
    """Every route of the main listener's own list that is not also the public one's, with real names in it."""
    paths = server.http.get("/openapi.json").json()["paths"]
    names = {"ref": "iris", "name": "iris", "model_name": "iris", "version": "1.0.0"}
    names |= dict.fromkeys(("model_id", "id", "rollout_id"), "x")
    found = [(method.upper(), path.format(**names)) for path, methods in paths.items() for method in methods]
    pages = ("/login", "/upload-model", "/settings", "/docs", "/docs/errors", "/openapi.json", "/static/page.css")
    found += [("GET", page) for page in (*pages, "/model?model_id=iris", "/predict?model_id=iris", "/model-logs")]
    found += [("POST", page) for page in ("/login", "/logout", "/api/upload-and-run-ui", "/models-ui/iris/stop")]
    ours = {("POST", "/models/iris/predict"), ("GET", "/models/iris"), ("GET", "/health")}
    ours |= {("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready")}
    ours |= {("GET", "/v1/models/iris"), ("POST", "/v1/models/iris:predict")}
    for base in ("/v2/models/iris", "/v2/models/iris/versions/1.0.0"):
        ours |= {("GET", base), ("GET", f"{base}/ready"), ("POST", f"{base}/infer")}
        ours |= {("POST", f"{base}/generate"), ("POST", f"{base}/generate_stream")}
    return sorted(set(found) - ours)


def test_no_route_of_the_owner_answers_at_the_end_of_the_tunnel_even_to_an_admin_key(server: Server) -> None:
    host, port, _ = share(server)
    routes = admin_routes(server)
    assert len(routes) > 30
    for place in ((host, port), ("127.0.0.1", listener(server))):
        for method, path in routes:
            for name, extra in (
                (f"127.0.0.1:{server.port}", ""),
                ("fox.example", f"X-Forwarded-Host: 127.0.0.1:{server.port}\r\nX-Original-URL: {path}\r\n"),
            ):
                status, text = said(
                    place,
                    f"{method} {path} HTTP/1.1\r\nHost: {name}\r\nX-API-Key: an-admin-key\r\nAccept: text/html\r\n"
                    f"Origin: {server.url}\r\n{extra}Content-Length: 0\r\nConnection: close\r\n\r\n",
                )
                assert status in (404, 405), (method, path, text)
                assert any(words in text for words in ("There is nothing at", "There is no model", "does not support"))
                assert "private" not in text
                assert "set-cookie" not in text.lower()
    models = server.http.get("/models", headers=ADMIN).json()["models"]
    assert {model["status"] for model in models} == {"live"}
    assert len(server.http.get("/keys", headers=ADMIN).json()["keys"]) == 1


def test_others_get_predictions_and_a_short_document_and_only_with_the_key(server: Server) -> None:
    host, port, key = share(server)
    stranger = http.client.HTTPConnection(host, port, timeout=20)

    def ask(method: str, path: str, key: str = "", body: object = None) -> tuple[int, dict[str, object]]:
        headers = {"X-API-Key": key} if key else {}
        content = None if body is None else json.dumps(body)
        stranger.request(method, path, content, {**headers, "Content-Type": "application/json"})
        answer = stranger.getresponse()
        return answer.status, json.loads(answer.read())

    assert ask("GET", "/health") == (200, {"status": "ok"})
    status, document = ask("GET", "/models/iris", key)
    assert status == 200
    assert document.keys() == {"name", "version", "description", "endpoint", "signature", "sample"}
    for name in ("iris", "iris@1.0.0", server.http.get("/models/iris", headers=ADMIN).json()["model_id"]):
        status, answer = ask("POST", f"/models/{name}/predict", key, ROW)
        assert (status, len(answer["predictions"])) == (200, 1)  # type: ignore[arg-type]
    for path in ("/models/iris/predict", "/models/private/predict", "/models/nobody/predict"):
        assert ask("POST", path, "", ROW)[0] == ask("POST", path, "wrong", ROW)[0] == 401
    private = server.http.get("/models/private", headers=ADMIN).json()
    for name in ("private", "private@1.0.0", private["model_id"], "nobody"):
        assert ask("POST", f"/models/{name}/predict", key, ROW)[0] == ask("GET", f"/models/{name}", key)[0] == 404

    (entry,) = server.http.get("/keys", headers=ADMIN).json()["keys"]
    assert ask("POST", "/models/iris/predict", key, ROW)[0] == 200
    assert server.http.delete(f"/keys/{entry['id']}", headers=ADMIN).status_code == 200
    assert ask("POST", "/models/iris/predict", key, ROW)[0] == 401, "on the connection that was open"
    stranger.close()


def test_the_main_listener_is_not_the_public_one_under_any_name(server: Server) -> None:
    host, port, key = share(server)
    for name, extra in ((f"{host}:{port}", f"X-Forwarded-Port: {port}\r\n"), ("fox.example", ""), ("localhost", "")):
        status, text = said(
            ("127.0.0.1", server.port),
            f"GET /models HTTP/1.1\r\nHost: {name}\r\nX-Forwarded-For: {host}\r\n{extra}Connection: close\r\n\r\n",
        )
        assert status in (401, 403), text
    holder = {"X-API-Key": key}
    assert server.http.post("/models/iris/stop", headers=holder).status_code == 403
    assert server.http.delete("/share", headers=holder).status_code == 403


def test_when_nothing_is_shared_any_more_nobody_listens(server: Server) -> None:
    share(server)
    port = listener(server)
    assert server.http.delete("/share", headers=ADMIN).status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
