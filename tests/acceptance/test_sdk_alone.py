"""`pip install prism-serve`, from its wheel: the SDK and its commands, with a server that runs elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import BuildFailed
from app.runtime.packages.uv import run_uv
from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.server import CHECKOUT, Server

Prism = Callable[..., subprocess.CompletedProcess[str]]
CALLS = """
import json, sys
from importlib.util import find_spec
import prism

with prism.Prism() as client:
    model = client.deploy(sys.argv[1], name="by-sdk")
    print(json.dumps([find_spec("fastapi"), model.status, client.predict("by-sdk", json.loads(sys.argv[2])).predictions]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `bin` of an environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("installed")

    async def install() -> None:
        for arguments in (
            ["build", "--wheel", "--out-dir", str(folder), str(CHECKOUT)],
            ["venv", "--python", sys.executable, str(folder / "venv")],
        ):
            await run_uv(arguments, log=lambda line: None, timeout_seconds=600, error=BuildFailed)
        (wheel,) = folder.glob("*.whl")
        arguments = ["pip", "install", "--python", str(folder / "venv"), str(wheel)]
        await run_uv(arguments, log=lambda line: None, timeout_seconds=600, error=BuildFailed)

    asyncio.run(install())
    return folder / "venv" / "bin"


@pytest.fixture
def server(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process")


@pytest.fixture
def environ(tmp_path: Path, server: Server) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PRISM_")}
    return {**inherited, "PRISM_HOME": str(tmp_path / "home"), "PRISM_URL": server.url}


@pytest.fixture
def prism(installed: Path, environ: dict[str, str], tmp_path: Path) -> Prism:
    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [str(installed / "prism"), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**environ, **settings}, capture_output=True, text=True, timeout=300
        )

    return run


def test_the_sdk_deploys_and_predicts_without_the_servers_packages(
    installed: Path, environ: dict[str, str], tmp_path: Path, iris_file: Path
) -> None:
    command = [str(installed / "python"), "-c", CALLS, str(iris_file), json.dumps(ROW)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [None, "live", ["setosa"]]


def test_a_model_is_pushed_listed_rolled_back_read_and_removed_by_the_short_forms(
    prism: Prism, iris_file: Path
) -> None:
    for _ in range(2):
        pushed = prism("push", str(iris_file), "--name", "flowers")
        assert pushed.returncode == 0, pushed.stderr
    assert "prism rollback flowers" in pushed.stderr
    assert "flowers@1.0.0 is live" in prism("rollback", "flowers").stdout
    listed = {model["ref"]: model["status"] for model in json.loads(prism("ls", "--json").stdout)["models"]}
    assert (listed["flowers@1.0.0"], listed["flowers@1.1.0"]) == ("live", "stopped")
    assert prism("predict", "flowers", json.dumps(ROW)).stdout == '"setosa"\n'
    assert prism("logs", "flowers", "--build").stdout
    older = prism("rollback", "flowers")
    assert older.returncode == 1
    assert "no version before 1.0.0" in older.stderr
    options = ("--strategy", "none", "--bump", "major", "--metadata", '{"auc": 0.9}')
    beside = prism("push", str(iris_file), "--name", "flowers", *options)
    assert "flowers@2.0.0 is live" in beside.stdout
    assert "prism models start flowers@2.0.0" in beside.stderr
    newest, _, oldest = [line.split() for line in prism("versions", "flowers").stdout.splitlines()[1:]]
    assert (newest[:4], oldest[:4]) == (["2.0.0", "live", "0%", "1.0.0"], ["1.0.0", "live", "100%", "-"])
    assert "metric auc" in prism("diff", "flowers", "1.0.0", "2.0.0").stdout
    refused = prism("push", str(iris_file), "--name", "flowers", "--set-version", "2.0.0")
    assert "The next free ones are 3.0.0 (major)" in refused.stderr
    assert "flowers@1.1.0 is live" in prism("rollback", "flowers@1.1.0").stdout
    assert "Removed flowers@1.1.0" in prism("rm", "flowers", "--yes").stdout


def test_the_wheel_brings_the_pages_the_migrations_and_the_sample_model(installed: Path) -> None:
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    sample = Path("model_store/samples/iris")
    for file in (
        sample / "iris.joblib",
        sample / "sample.json",
        "app/ui/templates/page.html",
        "app/ui/static/page.css",
        "app/registry/catalog/migrations/env.py",
        "app/registry/catalog/migrations/versions/0001_initial.py",
    ):
        assert (packages / file).read_bytes() == (CHECKOUT / file).read_bytes()


def test_what_needs_the_server_on_this_machine_says_what_to_install(prism: Prism) -> None:
    for command in ("run", "stop", "doctor"):
        done = prism(command)
        assert done.returncode == 1
        assert "prism-serve[server]" in done.stdout + done.stderr
    assert prism("status").returncode == 0
