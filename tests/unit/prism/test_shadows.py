"""Shadows in the SDK and on a terminal, against a server that answers as written."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from prism import AsyncPrism, Prism, errors
from prism.cli.shadow_view import describe
from prism.responses import record
from prism.shadows import ShadowReport

ROLLOUT: dict[str, Any] = {
    "id": "s/1",
    "name": "fraud",
    "kind": "shadow",
    "state": "running",
    "reason": None,
    "stable": {"version": "1.4.0"},
    "candidate": {"version": "2.0.0"},
}
REPORT: dict[str, Any] = {
    "id": "s/1",
    "name": "fraud",
    "state": "running",
    "production_version": "1.4.0",
    "shadow_version": "2.0.0",
    "agreement": 0.99999,
    "compared": 1200,
    "failed": 1,
    "uncompared": 2,
    "copies": {"sent": 1210, "answered": 1203, "dropped": 7},
    "latency": {"production": {"p50_ms": 1.25, "p95_ms": 2.0, "p99_ms": 3.0}, "shadow": {}},
    "fields": [
        {"field": "predictions[]", "differing": 3, "noisy": 0, "is_noise": False},
        {"field": "stamp", "differing": 1200, "noisy": 24, "is_noise": True},
    ],
    "disagreements": [
        {"request_id": "q2", "at": "2026-11-29T22:04:11Z", "cause": "status 500", "differences": []},
        {
            "request_id": "q1",
            "at": "2026-11-29T22:04:10Z",
            "cause": "",
            "differences": [{"path": "predictions[0]", "kind": "label", "production": "no\x1b[31m", "shadow": "yes"}],
        },
    ],
}


class Server:
    """requests: what was asked of it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.states = ["pending", "running"]

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        self.requests.append((request.method, path, json.loads(request.content) if request.content else {}))
        if path.startswith("/monitoring"):
            return httpx2.Response(200, json=REPORT)
        if path.startswith("/deployments?"):
            return httpx2.Response(200, json={"deployments": [ROLLOUT | {"id": "c", "kind": "canary"}, ROLLOUT]})
        if path.endswith("/stop"):
            return httpx2.Response(200, json=ROLLOUT | {"state": "done", "reason": "stopped"})
        return httpx2.Response(200, json=ROLLOUT | {"state": self.states.pop(0)})


def test_a_shadow_is_begun_waited_for_reported_and_stopped() -> None:
    server = Server()
    with Prism("http://prism.test", transport=httpx2.MockTransport(server)) as client:
        shadow = client.create_shadow(name="fraud", production_version="1.4.0", shadow_version="2.0.0")
        assert repr(shadow) == "<Shadow fraud pending (2.0.0 beside 1.4.0)>"
        assert shadow.wait(60).state == "running"
        assert shadow.report().agreement == 0.99999
        assert shadow.stop().reason == "stopped"
        assert client.shadow("fraud").id == "s/1"
        with pytest.raises(errors.InvalidRequest):
            client.shadow_report("..")
    wanted = {"name": "fraud", "production_version": "1.4.0", "shadow_version": "2.0.0"}
    assert server.requests[0] == ("POST", "/deployments/shadow", wanted)
    assert [path for _, path, _ in server.requests[1:4]] == [
        *("/deployments/s%2F1", "/monitoring/shadow/fraud", "/deployments/s%2F1/stop"),
    ]


async def test_the_asynchronous_client_does_the_same() -> None:
    server = Server()
    async with AsyncPrism("http://prism.test", transport=httpx2.MockTransport(server)) as client:
        shadow = await client.create_shadow("fraud", shadow_version="2.0.0")
        assert (await shadow.wait(60)).state == "running"
        assert (await shadow.report()).copies.dropped == 7
        assert (await shadow.stop()).state == "done"
        assert (await client.shadow("fraud")).id == "s/1"
    assert server.requests[0][2] == {"name": "fraud", "shadow_version": "2.0.0"}


def test_a_report_is_shown_and_controls_no_terminal() -> None:
    assert describe(record(ShadowReport, REPORT)).splitlines() == [
        "fraud: 2.0.0 is the shadow of 1.4.0, running",
        "Agreement 99.99 % of 1,200 answers; 1 failed, 2 could not be compared",
        "Copies    1,210 sent, 1,203 answered, 7 dropped",
        "Latency   production 1.2 ms (p99 3.0 ms); shadow not known yet",
        "Fields that differ:",
        "  predictions[]: 3 times",
        "  stamp: 1,200 times, as production does from itself",
        "Last disagreements:",
        "  22:04:11 q2 status 500",
        '  22:04:10 q1 predictions[0]: "no\\u001b[31m" → "yes" (label)',
    ]


def test_a_shadow_without_comparisons_says_so() -> None:
    told = describe(record(ShadowReport, ROLLOUT | {"production_version": "1.4.0", "lost": "2.0.0 was stopped"}))
    assert "Agreement nothing compared yet" in told
    assert "Lost      2.0.0 was stopped" in told
