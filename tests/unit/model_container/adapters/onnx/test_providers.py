"""On what onnxruntime computes: what was asked for, what is there, and what is told of the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from model_container.adapters.onnx.adapter import load_onnx
from model_container.adapters.onnx.providers import CPU, CUDA, chosen_providers
from model_container.contract.config import RuntimeConfig
from tests.unit.model_container.adapters.onnx.onnx_lab import same
from tests.unit.model_container.graphs import FLOAT

HERE = onnxruntime.get_available_providers()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    path.write_bytes(same(FLOAT, ("n", 2)).SerializeToString())
    return str(path)


def test_providers_keep_the_owners_order_and_missing_ones_are_left_out() -> None:
    tensorrt = "TensorrtExecutionProvider"
    assert chosen_providers([CPU, CUDA, tensorrt], [tensorrt, CUDA, CPU]) == [tensorrt, CUDA, CPU]
    assert chosen_providers([CPU, CUDA], [tensorrt, CUDA, CPU]) == [CUDA, CPU]
    assert chosen_providers([CPU, CUDA], [CPU]) == [CPU]
    assert chosen_providers([CPU, CUDA]) == [CUDA, CPU]


@pytest.mark.skipif(CUDA in HERE, reason="this onnxruntime is built for CUDA")
def test_a_gpu_that_onnxruntime_cannot_use_is_told_and_the_cpu_answers(file: str, capfd: Any) -> None:
    adapter = load_onnx(RuntimeConfig(file, "onnx", gpu=True))
    facts = adapter.execution()
    assert facts["execution_providers"] == [CPU]
    assert "built without it" in facts["passed_over"][CUDA]
    assert f"prism: {CUDA} is not used" in capfd.readouterr().err


@pytest.mark.skipif(CUDA in HERE, reason="this onnxruntime is built for CUDA")
def test_a_missing_required_provider_prevents_loading(file: str) -> None:
    with pytest.raises(ValueError, match=f"{CUDA} is in onnxruntime .* which has .*{CPU}"):
        load_onnx(RuntimeConfig(file, "onnx", execution_providers=[CUDA]))


def test_configured_providers_take_precedence_over_gpu(file: str) -> None:
    facts = load_onnx(RuntimeConfig(file, "onnx", gpu=True, execution_providers=[CPU])).execution()
    assert facts == {"execution_providers": [CPU], "threads": 1, "joins_requests": True}
