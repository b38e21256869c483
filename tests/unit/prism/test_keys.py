"""Keys by the SDK and the command line: what is sent, and how the answer is told."""

from __future__ import annotations

import json

import httpx2
import pytest
from typer.testing import CliRunner

from prism.async_client import AsyncPrism
from prism.cli import app
from prism.client import Prism
from prism.errors import InvalidRequest

ENTRY = {"id": "key_1", "name": "billing", "created_at": "2026-01-01T00:00:00Z", "hint": "wxyz"}
MADE = {**ENTRY, "key": "prism_secret-wxyz"}


class Answering(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """requests: method, path and body of each."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.revocation: dict[str, object] = {"revoked": "key_1"}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append((request.method, request.url.raw_path.decode(), request.read()))
        documents = {"GET": {"keys": [ENTRY]}, "POST": MADE, "DELETE": self.revocation}
        return httpx2.Response(200, json=documents[request.method])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


SENT = [("POST", "/keys", b'{"name":"billing"}'), ("GET", "/keys", b""), ("DELETE", "/keys/key_1", b"")]


def test_a_key_is_made_listed_and_revoked() -> None:
    far = Answering()
    with Prism("http://here", transport=far) as prism:
        assert prism.keys.create("billing").key == "prism_secret-wxyz"
        (listed,) = prism.keys.list()
        assert (listed.hint, listed.key) == ("wxyz", None)
        assert prism.keys.revoke("key_1") == "key_1"
    assert far.requests == SENT


async def test_and_with_the_asynchronous_client() -> None:
    far = Answering()
    async with AsyncPrism("http://here", transport=far) as prism:
        assert (await prism.keys.create("billing")).key == "prism_secret-wxyz"
        assert [key.id for key in await prism.keys.list()] == ["key_1"]
        assert await prism.keys.revoke("key_1") == "key_1"
    assert far.requests == SENT


@pytest.mark.parametrize("id", ["", ".", "..", "/", " "])
def test_an_id_that_would_reach_another_route_is_refused_before_anything_is_sent(id: str) -> None:
    far = Answering()
    with Prism("http://here", transport=far) as prism, pytest.raises(InvalidRequest):
        prism.keys.revoke(id)
    assert far.requests == []


def test_a_new_key_alone_is_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.cli.session.Session.client", Prism("http://here", transport=Answering()))
    made = CliRunner().invoke(app, ["keys", "create", "billing"])
    assert made.exit_code == 0
    assert made.stdout == "prism_secret-wxyz\n"
    assert "only once" in made.stderr
    assert json.loads(CliRunner().invoke(app, ["keys", "create", "billing", "--json"]).stdout) == MADE


def test_a_listing_tells_how_each_ends_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.cli.session.Session.client", Prism("http://here", transport=Answering()))
    listed = CliRunner().invoke(app, ["keys", "ls"])
    assert "key_1" in listed.stdout
    assert " wxyz " in listed.stdout
    assert "secret" not in listed.stdout
    assert CliRunner().invoke(app, ["keys", "revoke", "key_1"]).stdout == "Revoked key_1.\n"


def test_a_revocation_that_is_not_on_the_servers_disk_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Answering()
    far.revocation = {"revoked": "key_1", "saved": False, "hint": "Revoked, but not yet on disk: free some space."}
    monkeypatch.setattr("prism.cli.session.Session.client", Prism("http://here", transport=far))
    told = CliRunner().invoke(app, ["keys", "revoke", "key_1"])
    assert told.stdout == "Revoked key_1.\n"
    assert "not yet on disk: free some space" in told.stderr
    as_json = CliRunner().invoke(app, ["keys", "revoke", "key_1", "--json"]).stdout
    assert json.loads(as_json) == far.revocation
