"""GPUs on a real engine: that the container asks for them, and what happens where the engine has none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from app.config.loading import load_settings
from app.core.execution import ALL_GPUS, Execution, Gpus
from app.core.model import Limits
from app.errors import StartFailed
from app.runtime import doctor
from app.runtime.docker.container import Plan
from app.runtime.docker.engine import engine_info
from app.runtime.docker.gpu import offered
from app.runtime.docker.target import DockerTarget
from tests.integration.process_lab import small_lock, write_model
from tests.records import with_facts

pytestmark = pytest.mark.docker

PYTHON = "{}.{}".format(*sys.version_info[:2])


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def planned(folder: Path, wanted: Gpus, image: str) -> Plan:
    """Return the plan of a container on the bridge that every engine has."""
    model = write_model(folder, small_lock(PYTHON))
    model = with_facts(model, execution=Execution(wanted))
    assert model.variant is not None
    return Plan(
        name=f"prism_test_gpu_{uuid4().hex[:8]}",
        home="test-gpu",
        network="bridge",
        image=image,
        model=model,
        variant=model.variant,
        folder=folder,
        limits=Limits(memory_mb=256, pids=64),
        has_socket=False,
        token="secret",
        started_at="2026-01-01T00:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        (Gpus(ALL_GPUS), {"Count": -1, "DeviceIDs": None}),
        (Gpus(2), {"Count": 2, "DeviceIDs": None}),
        (Gpus(ids=("0", "1")), {"Count": 0, "DeviceIDs": ["0", "1"]}),
    ],
)
def test_the_engine_records_the_device_request_of_a_container(
    tmp_path: Path, engine: docker.DockerClient, wanted: Gpus, asked: dict[str, Any]
) -> None:
    plan = planned(tmp_path / "m", wanted, f"python:{PYTHON}-slim")
    container = engine.containers.create(**plan.options())
    try:
        (request,) = engine.api.inspect_container(container.id)["HostConfig"]["DeviceRequests"]
    finally:
        container.remove(force=True)
    assert request["Capabilities"] == [["gpu"]]
    assert {"Count": request["Count"], "DeviceIDs": request["DeviceIDs"] or None} == asked


def test_without_gpu_no_device_is_requested(tmp_path: Path, engine: docker.DockerClient) -> None:
    container = engine.containers.create(**planned(tmp_path / "m", Gpus(), f"python:{PYTHON}-slim").options())
    try:
        assert not engine.api.inspect_container(container.id)["HostConfig"]["DeviceRequests"]
    finally:
        container.remove(force=True)


def test_an_engine_without_a_gpu_says_so_and_leaves_nothing_behind(tmp_path: Path, engine: docker.DockerClient) -> None:
    if offered(engine_info()):
        pytest.skip("this engine has a GPU")
    home = f"test{uuid4().hex[:8]}"
    target = DockerTarget(
        home=home,
        run_folder=tmp_path / "run",
        base_image="python:{version}-slim",
        build_timeout_seconds=300,
    )
    model = write_model(tmp_path / "m", small_lock(PYTHON))
    model = with_facts(model, model_id=f"{home}-gpu", execution=Execution(Gpus(ALL_GPUS)))

    async def start() -> None:
        await target.build_environment(small_lock(PYTHON), print)
        await target.build_model(model, tmp_path / "m", print)
        try:
            with pytest.raises(StartFailed) as refused:
                await target.start(model, tmp_path / "m", Limits(memory_mb=256, pids=64))
        finally:
            await target.remove(model, environment_in_use=False)
        assert "The Docker engine has no GPU for `intruder@1.0.0`" in refused.value.detail
        assert "NVIDIA Container Toolkit" in refused.value.hint

    asyncio.run(start())
    assert not engine.containers.list(all=True, filters={"label": f"prism.home={home}"})
    assert not engine.networks.list(names=[f"prism_{home}"])
    assert list((tmp_path / "s").glob("*")) == []


def test_the_doctor_says_whether_the_engine_has_a_gpu() -> None:
    found = doctor.gpu(load_settings(target="docker"))
    assert found.level == "ok"
    assert ("the engine offers" if offered(engine_info()) else "NVIDIA Container Toolkit") in found.result
