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
    said = model.spec.calling
    return PredictContract(
        method=said.method,
        batchable=said.batchable,
        inputs=[_port(one) for one in said.inputs],
        outputs=[_port(one) for one in said.outputs],
        source=said.source,
        strict=said.strict,
    )


def execution_of(model: ModelVersion, variant: Variant, limits: Limits) -> dict[str, Any]:
    """Return what a variant computes on, as arguments of RuntimeConfig.

    The settings' execution providers are for what is an ONNX model as it came.
    """
    said = model.spec.execution
    is_onnx = variant.format is Format.ONNX
    return {
        "threads": said.threads or limits.threads or max(1, round(limits.cpus)),
        "gpu": bool(said.gpus) and variant.name is not VariantName.ACCELERATED,
        "execution_providers": list(said.providers or limits.execution_providers) if is_onnx else [],
    }


def _port(one: Tensor) -> dict[str, object]:
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
