"""Makes what a runtime is told of how its model is called, and on what it computes."""

from __future__ import annotations

from typing import Any

from app.core.inspection import Format
from app.core.model import Limits, ModelVersion, Variant, VariantName
from app.core.signature import Tensor
from model_container.contract.config import PredictContract


def contract_of(model: ModelVersion, variant: Variant) -> PredictContract:
    """Return how a variant is called. An accelerated one has all that it needs in its own file."""
    if variant.name is VariantName.ACCELERATED:
        return PredictContract()
    calling = model.spec.calling
    return PredictContract(
        method=calling.method,
        batchable=calling.batchable,
        inputs=[_port(tensor) for tensor in calling.inputs],
        outputs=[_port(tensor) for tensor in calling.outputs],
        source=calling.source,
        strict=calling.strict,
    )


def execution_of(model: ModelVersion, variant: Variant, limits: Limits) -> dict[str, Any]:
    """Return what a variant computes on, as arguments of RuntimeConfig.

    The settings' execution providers are for what is an ONNX model as it came.
    """
    execution = model.spec.execution
    is_onnx = variant.format is Format.ONNX
    return {
        "threads": execution.threads or limits.threads or max(1, round(limits.cpus)),
        "gpu": bool(execution.gpus) and variant.name is not VariantName.ACCELERATED,
        "execution_providers": list(execution.providers or limits.execution_providers) if is_onnx else [],
    }


def _port(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
