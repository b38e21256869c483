"""What docs/dialects.md shows, done as written, and each route that it lists asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server

PAGE = (CHECKOUT / "docs" / "dialects.md").read_text()
ASKED = re.findall(r"```http\n(\w+) (\S+)\n((?:[\w-]+: [^\n]*\n)*)\n(.*?)```\n```json\n(.*?)```", PAGE, re.S)
SCRIPTS = re.findall(r"```python\n(.*?)((?:^# [^\n]*\n)+)```", PAGE, re.S | re.M)
TABLE = PAGE.partition("\n\nA `{name}`")[0]
ROUTES = re.findall(r"`(GET|POST) (/[^`]*)`|`(/[^`]*)`", "".join(re.findall(r"^\| `.*?\|", TABLE, re.M)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process") as server:
        server.deploy(CHECKOUT / "model_store" / "samples" / "iris" / "iris.joblib", model_name="iris")
        yield server


@pytest.mark.parametrize("asked", ASKED, ids=[one[1] for one in ASKED])
def test_each_request_is_answered_as_it_is_shown(server: Server, asked: tuple[str, ...]) -> None:
    method, path, lines, body, promised = asked
    headers = dict(line.split(": ", 1) for line in lines.splitlines())
    answer = server.http.request(method, path, content=body, headers={"Content-Type": "application/json", **headers})
    assert answer.json() == json.loads(promised)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_prints_what_is_shown(server: Server, script: tuple[str, str]) -> None:
    code, promised = script
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", re.sub(r"\b8000\b", str(server.port), code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == promised.replace("# ", "")


def test_the_page_is_read_whole() -> None:
    assert len(ASKED) == 7
    assert len(SCRIPTS) == 2


def test_each_route_that_is_listed_exists_and_each_that_exists_is_listed(server: Server) -> None:
    described = server.http.get("/openapi.json").json()["paths"]
    ours = {
        path
        for path, methods in described.items()
        for route in methods.values()
        if set(route["tags"]) & {"predict", "Open Inference Protocol V2", "KServe V1", "MLflow"}
    }
    listed: set[str] = set()
    base = ""
    for method, path, other in ROUTES:
        full = path or (other if other.startswith(("/v", "/ping")) else base.rpartition("/")[0] + other)
        base = path if method else base
        listed |= {full.replace("[/versions/{version}]", part) for part in ("", "/versions/{version}")}
    assert {path.replace("{model_name}", "{name}") for path in ours} == listed
