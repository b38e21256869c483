"""A pickle of 22 bytes and the wheel that its owner asks for: refused over HTTP, and nothing of the wheel has run."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.conftest import StartServer
from tests.integration.hostile_wheel import FIRED, PACKAGE, PICKLE, files, served, write_wheel


@pytest.mark.parametrize("target", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_wheel_that_reaches_for_the_start_of_a_python_refuses_the_upload(
    start_server: StartServer, tmp_path: Path, target: str
) -> None:
    canary, version = tmp_path / "canary", f"1.{uuid4().int % 10**9}"
    write_wheel(tmp_path, version, files(canary, version))
    (tmp_path / "model.pkl").write_bytes(PICKLE)
    with served(tmp_path) as index:
        server = start_server(PRISM_TARGET=target, PRISM_ADMIN_KEYS="sesame-of-the-gateway", PIP_EXTRA_INDEX_URL=index)
        server.http.headers["X-API-Key"] = "sesame-of-the-gateway"
        answer = server.upload(
            tmp_path / "model.pkl", model_name="intruder", requirements=f"{PACKAGE}=={version}", allow_unsafe="true"
        )

    assert answer.status_code >= 400
    problem = answer.json()
    assert problem["code"] == "build_failed", problem
    assert f"{PACKAGE} {version} contains" in problem["detail"]
    assert not canary.exists()
    assert FIRED not in json.dumps(problem) + server.log()
