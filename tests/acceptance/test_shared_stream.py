"""A shared model streams at the end of its link, to who has the key, and no other model does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import problem
from tests.acceptance.streaming_lab import LINES, WORDS, Place, in_the_middle, zipped
from tests.integration.sshd import Sshd

pytestmark = pytest.mark.sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "sshd").mkdir()
    server = Sshd(tmp_path / "sshd")
    server.start()
    yield server
    server.stop()


def test_a_shared_model_streams_through_the_tunnel(start_server: StartServer, sshd: Sshd, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false", **sshd.settings())
    server.deploy(zipped(tmp_path, "words", WORDS))
    server.deploy(zipped(tmp_path, "secret", WORDS))
    shared = server.http.post("/share", json={"models": ["words"], "create_key": True}).json()
    key = {"Accept": LINES, "X-API-Key": shared["key"]["key"]}
    with httpx2.Client(base_url=shared["url"], timeout=60, trust_env=False) as http:
        with http.stream("POST", "/models/words/predict", json={"words": "a wait b"}, headers=key) as response:
            lines = response.iter_lines()
            in_the_middle(Place(server), lines, '{"item":"a"}')
            assert len(list(lines)) == 3
        answer = http.post("/v2/models/words/generate_stream", json={"words": "a"}, headers=key)
        assert json.loads(answer.text.removeprefix("data: "))["text_output"] == "a"
        assert problem(http.post("/models/secret/predict", json={"words": "a"}, headers=key))["status"] == 404
        assert http.post("/v2/models/secret/generate_stream", json={"words": "a"}, headers=key).status_code == 404
        keyless = http.post("/models/words/predict", json={"words": "a"}, headers={"Accept": LINES})
        assert problem(keyless)["status"] == 401
