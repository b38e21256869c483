"""A runtime that says of itself what none would: its start fails, in words, and nothing of it is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.model import Status
from model_container.contract.frames import FORM_PROBLEM, Answer, Request
from tests.unit.lifecycle.house_lab import house

ID = "a" * 12
SIGNATURE: dict[str, Any] = {"kind": "table", "inputs": []}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


LIES: dict[str, dict[str, Any]] = {
    "no signature": {"protocol": 1},
    "a signature that is a text": {"signature": "table"},
    "inputs of no name": {"signature": {"kind": "table", "inputs": [{"name": 1}]}},
    "samples that are a number": {"signature": SIGNATURE, "samples": 5},
    "a sample that is deep": {"signature": SIGNATURE, "samples": [nested(500)]},
    "libraries that are a list": {"signature": SIGNATURE, "libraries": ["numpy"]},
    "walls that are numbers": {"signature": SIGNATURE, "confinement": {"namespaces": [1, 2]}},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_an_invalid_handshake_fails_the_start(tmp_path: Path, lie: dict[str, Any]) -> None:
    async with house(tmp_path) as home:
        home.target.welcome = lie
        await home.deployments.start(await home.add(ID))
        settled = await home.deployments.settled(ID)
        assert settled.status is Status.FAILED
        assert settled.error is not None
        assert settled.error["code"] == "start_failed"
        assert home.target.newest is None


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"detail":' + b"[" * 5000 + b"]" * 5000 + b"}", b"{}"])
async def test_a_malformed_problem_fails_the_probe_with_a_message(tmp_path: Path, body: bytes) -> None:
    async def refuses(requests: list[Request]) -> list[Answer]:
        return [Answer(body, 500, FORM_PROBLEM) for _ in requests]

    async with house(tmp_path) as home:
        home.target.handler = refuses
        await home.deployments.start(await home.add(ID))
        settled = await home.deployments.settled(ID)
        assert settled.error is not None
        assert settled.error["code"] == "probe_failed"
