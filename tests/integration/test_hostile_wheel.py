"""A wheel that wants to run code at the start of a Python, on both targets, with uv's cache cold and warm."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from app.core.environment import Lock
from app.core.model import Limits, ModelVersion
from app.errors import BuildFailed
from app.runtime.docker.images import environment_image, model_image
from app.runtime.docker.target import DockerTarget
from app.runtime.packages.uv import run_uv
from app.runtime.process.target import ProcessTarget
from tests.integration.hostile_wheel import FIRED, IN_A_CONTAINER, PACKAGE, PICKLE, files, served, write_wheel
from tests.integration.process_lab import HOME, connected, small_lock, write_model
from tests.records import with_facts

PYTHON = "{}.{}".format(*sys.version_info[:2])
SECRETS = ("PRISM_ADMIN_KEYS", "PRISM_API_KEYS", "NGROK_AUTHTOKEN", "AWS_SECRET_ACCESS_KEY")
SECRET = "sesame-of-the-gateway"
BOTH_CACHES = pytest.mark.parametrize("cache", ["cold", "warm"])


@dataclass
class Attack:
    """lock: of an environment with the wheel. canary: written to by the wheel's code wherever it may write."""

    folder: Path
    lock: Lock
    canary: Path

    def model(self, name: str) -> ModelVersion:
        """A pickle of 22 bytes that names the wheel's class."""
        model = write_model(self.folder / name, self.lock, name=name)
        (self.folder / name / "artifact" / "model.pkl").write_bytes(PICKLE)
        return model


@pytest.fixture
async def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str) -> AsyncIterator[Attack]:
    """A version of its own for each test, which no cache knows unless it is to."""
    for name in SECRETS:
        monkeypatch.setenv(name, SECRET)
    version = f"1.{uuid4().int % 10**9}"
    canary = tmp_path / "canary"
    write_wheel(tmp_path, version, files(canary, version))
    with served(tmp_path) as index:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index)
        wanted = f"{PACKAGE}=={version}\n"
        if cache == "warm":
            install = ["pip", "install", "--no-deps", "--target", str(tmp_path / "warm"), "--python", sys.executable]
            await run_uv([*install, wanted.strip()], log=print, timeout_seconds=120, error=BuildFailed)
        yield Attack(tmp_path, Lock(python=PYTHON, text=wanted + small_lock(PYTHON).text), canary)


@pytest.fixture
def let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the audit of installed files, as if it had missed them: the other protections must suffice."""
    monkeypatch.setattr("app.runtime.packages.install.check", lambda *_: None)


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def process_target(folder: Path) -> ProcessTarget:
    return ProcessTarget(folder / "environments", folder / "run", folder / "s", 300, HOME)


def docker_target(folder: Path) -> DockerTarget:
    return DockerTarget(
        home=f"test{uuid4().hex[:8]}",
        run_folder=folder / "run",
        base_image="python:{version}-slim",
        build_timeout_seconds=300,
    )


@BOTH_CACHES
async def test_on_process_a_hostile_wheel_is_refused_by_name_and_removed(attack: Attack) -> None:
    target = process_target(attack.folder)

    for _ in range(2):
        with pytest.raises(BuildFailed, match=rf"{PACKAGE} 1\.\d+ contains"):
            await target.build_environment(attack.lock, print)

    left = [path.name for path in (attack.folder / "environments").iterdir() if path.suffix not in (".txt", ".lock")]
    assert left == []
    assert not attack.canary.exists()


@BOTH_CACHES
@pytest.mark.usefixtures("let_in")
async def test_on_process_no_package_code_runs_outside_the_sandbox(attack: Attack) -> None:
    target = process_target(attack.folder)
    model = attack.model("intruder")

    await target.build_environment(attack.lock, print)
    await target.build_model(model, attack.folder / "intruder", print)
    replica = await target.start(model, attack.folder / "intruder", Limits(memory_mb=512, pids=64))
    try:
        assert b"predictions" in await connected(replica)
    finally:
        await target.stop(replica, 0)

    log = (attack.folder / "intruder" / "logs" / "runtime.log").read_text()
    assert not attack.canary.exists()
    assert FIRED not in log
    seen = json.loads(next(line for line in log.splitlines() if "environment {" in line).partition("environment ")[2])
    assert SECRET not in seen.values()
    assert not [name for name in seen if name.startswith(("PRISM_", "NGROK_", "AWS_", "PIP_", "UV_"))]


@pytest.mark.docker
@BOTH_CACHES
async def test_on_docker_a_hostile_wheel_is_refused_by_name_and_removed(
    attack: Attack, engine: docker.DockerClient
) -> None:
    target = docker_target(attack.folder)

    with pytest.raises(BuildFailed, match=rf"{PACKAGE} 1\.\d+ contains"):
        await target.build_environment(attack.lock, print)

    assert not engine.images.list(filters={"label": f"prism.environment={attack.lock.hash}"})
    assert not list((attack.folder / "run").iterdir())
    assert not attack.canary.exists()


@pytest.mark.docker
@BOTH_CACHES
@pytest.mark.usefixtures("let_in")
async def test_on_docker_no_package_code_runs_outside_the_sandbox_or_in_the_build(
    attack: Attack, engine: docker.DockerClient
) -> None:
    target = docker_target(attack.folder)
    model = with_facts(attack.model("intruder"), model_id=f"evil-{uuid4().hex[:8]}")
    lines: list[str] = []
    replica = None
    try:
        await target.build_environment(attack.lock, lines.append)
        await target.build_model(model, attack.folder / "intruder", lines.append)
        for image in (environment_image(attack.lock), model_image(model.model_id)):
            found = engine.containers.run(
                image, ["-c", f"ls {' '.join(IN_A_CONTAINER)} 2>/dev/null; true"], entrypoint="sh", remove=True
            )
            assert found == b""
        replica = await target.start(model, attack.folder / "intruder", Limits(memory_mb=512, pids=64))
        assert b"predictions" in await connected(replica)
        log = engine.containers.get(replica.id).logs().decode()
    finally:
        if replica:
            await target.stop(replica, 0)
        await target.remove(model, environment_in_use=False)

    assert not attack.canary.exists()
    assert FIRED not in "\n".join(lines) + log
    assert "environment {" in log, "the model itself did run, in the sandbox"
    assert SECRET not in log
