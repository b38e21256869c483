"""The programs that Docker keeps passwords of registries with: docker-py starts them, with an environment it makes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from app.errors import PrismError
from app.runtime.docker.engine import Engine

pytestmark = pytest.mark.docker

HELPER = """#!/bin/sh
env > "$(dirname "$0")/seen"
echo '{"ServerURL": "127.0.0.1:1", "Username": "bob", "Secret": "for-the-registry"}'
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_credential_helper_sees_no_secret_of_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-lab"
    helper.write_text(HELPER)
    helper.chmod(0o700)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"127.0.0.1:1": "lab"}}))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PRISM_ADMIN_KEYS", "sesame-of-the-gateway")

    with pytest.raises(PrismError):  # there is no such registry
        await Engine().ask(lambda client: client.api.pull("127.0.0.1:1/nothing"))

    seen = (tmp_path / "seen").read_text()
    assert f"DOCKER_CONFIG={tmp_path}" in seen
    assert "sesame" not in seen
