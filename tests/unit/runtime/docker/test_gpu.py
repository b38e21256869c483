"""GPUs in the words of the Docker engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from app.core.execution import ALL_GPUS, Execution, Gpus
from app.core.model import Limits
from app.runtime.docker.context import model_dockerfile
from app.runtime.docker.gpu import device_requests, offered, refusal
from tests.records import with_facts
from tests.unit.runtime.docker.plan_lab import plan


@pytest.mark.parametrize(
    ("wanted", "requests"),
    [
        (Gpus(), []),
        (Gpus(ALL_GPUS), [{"count": -1, "capabilities": [["gpu"]]}]),
        (Gpus(2), [{"count": 2, "capabilities": [["gpu"]]}]),
        (Gpus(ids=("0", "3")), [{"device_ids": ["0", "3"], "capabilities": [["gpu"]]}]),
    ],
)
def test_a_container_requests_the_gpus_that_its_owner_chose(
    wanted: Gpus, requests: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert device_requests(wanted) == requests
    asked = plan(tmp_path, None)
    model = with_facts(asked.model, execution=Execution(wanted, ("CPUExecutionProvider",), 7))
    asked = structs.replace(asked, model=model)
    assert asked.options()["device_requests"] == requests
    config = asked.runtime_config()
    assert (config.gpu, config.execution_providers, config.threads) == (bool(wanted), ["CPUExecutionProvider"], 7)


def test_settings_apply_if_the_owner_sets_nothing(tmp_path: Path) -> None:
    limits = Limits(cpus=4, threads=2, execution_providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    config = structs.replace(plan(tmp_path, None), limits=limits).runtime_config()
    assert (config.threads, config.execution_providers) == (2, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert structs.replace(plan(tmp_path, None), limits=Limits(cpus=4)).runtime_config().threads == 4


def test_an_image_that_runs_by_itself_knows_of_its_gpu(tmp_path: Path) -> None:
    model = with_facts(plan(tmp_path, None).model, execution=Execution(Gpus(ALL_GPUS)))
    assert r"\"gpu\": true" in model_dockerfile(model, "prism_env_x", "prism_model_x", False)


@pytest.mark.parametrize(
    "words",
    [
        'could not select device driver "" with capabilities: [[gpu]].',
        "failed to discover GPU vendor from CDI: no known GPU vendor found.",
        "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all.",
        "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open",
        "nvidia-container-cli: device error: 7: unknown device: unknown.",
    ],
)
def test_a_missing_gpu_is_reported_with_the_next_step(words: str) -> None:
    error = refusal("iris@1.0.0", words)
    assert error is not None
    assert error.code == "start_failed"
    assert words in error.detail
    assert "NVIDIA Container Toolkit" in error.hint
    assert "leave `gpu` out" in error.hint


def test_other_start_errors_are_not_reported_as_a_missing_gpu() -> None:
    assert refusal("iris@1.0.0", "no space left on device.") is None


def test_an_engine_shows_its_gpus_by_a_runtime_or_by_devices() -> None:
    assert offered({"Runtimes": {"runc": {}}}) == ""
    assert offered({}) == ""
    assert "nvidia" in offered({"Runtimes": {"runc": {}, "nvidia": {}}})
    assert "nvidia.com/gpu=0" in offered({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]})
