"""Sharing by the SDK and the command line: what is sent, and how the answer is told."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from prism import errors
from prism.async_client import AsyncPrism
from prism.cli import app
from prism.client import Prism
from prism.errors import ConsentNeededError, InvalidRequest, TunnelFailedError

SHARED: dict[str, Any] = {
    "state": "on",
    "kind": "ssh",
    "url": "http://far:1",
    "models": [{"name": "iris", "public_url": "http://far:1/models/iris/predict"}],
    "open": False,
    "key": {"id": "key_1", "name": "share iris", "key": "prism_secret"},
    "of_a_later_version": 1,
}


class Answering(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """requests: method, path and body of each."""

    def __init__(self, status: int = 200, document: dict[str, Any] = SHARED) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self._answer = httpx2.Response(status, json=document)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        self.requests.append((request.method, request.url.raw_path.decode(), json.loads(body) if body else None))
        return self._answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


def test_sharing_calls_send_and_parse_their_documents() -> None:
    far = Answering()
    with Prism("http://here", transport=far) as prism:
        shared = prism.share("iris", create_key=True)
        prism.share_status()
        prism.stop_share("a/b@1.0.0")
        prism.stop_share()

    assert shared.models[0].public_url == "http://far:1/models/iris/predict"
    assert shared.key is not None
    assert shared.key.key == "prism_secret"
    assert shared.document["of_a_later_version"] == 1
    assert far.requests == [
        ("POST", "/share", {"models": ["iris"], "create_key": True, "open": False}),
        ("GET", "/share", None),
        ("DELETE", "/share/a%2Fb@1.0.0", None),
        ("DELETE", "/share", None),
    ]


async def test_the_asynchronous_client_sends_the_same() -> None:
    far = Answering()
    async with AsyncPrism("http://here", transport=far) as prism:
        shared = await prism.share(open_to_all=True)
        await prism.share_status()
        await prism.stop_share("iris")

    assert shared.url == "http://far:1"
    assert [request[:2] for request in far.requests] == [
        ("POST", "/share"),
        ("GET", "/share"),
        ("DELETE", "/share/iris"),
    ]
    assert far.requests[0][2] == {"models": [], "create_key": False, "open": True}


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(409, "consent_needed", ConsentNeededError), (502, "tunnel_failed", TunnelFailedError)]
)
def test_a_share_that_is_refused_is_not_asked_for_again(status: int, code: str, kind: type[errors.APIError]) -> None:
    far = Answering(status, {"status": status, "code": code, "detail": "No.", "hint": "Ask.", "reason": "no_token"})
    with Prism("http://here", transport=far) as prism, pytest.raises(kind) as told:
        prism.share("iris", create_key=True)
    assert told.value.document["reason"] == "no_token"
    assert len(far.requests) == 1


def test_an_empty_name_is_never_taken_for_all() -> None:
    far = Answering()
    with Prism("http://here", transport=far) as prism, pytest.raises(InvalidRequest):
        prism.stop_share("")
    assert far.requests == []


@pytest.mark.parametrize("command", ["start", "status", "stop"])
def test_every_command_takes_json_and_none_takes_a_key(command: str) -> None:
    told = CliRunner().invoke(app, ["share", command, "--help"]).stdout
    assert "--json" in told
    assert "--api-key " not in told
