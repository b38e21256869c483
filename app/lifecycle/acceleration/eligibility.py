"""Which models may be converted to a faster variant, and what is accepted as one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.core.atomic_file import write_atomic
from app.core.environment import Lock
from app.core.inspection import Format
from app.core.model import ModelVersion
from app.lifecycle.intake.readers import Readers

MAX_ONNX_BYTES = 256 << 20
CONVERTIBLE = ("scikit-learn", "xgboost", "lightgbm")


class ConversionRejected(Exception):
    """The reason why the original variant stays."""


def ineligible_reason(model: ModelVersion) -> str:
    """Return "" if the model may have a faster variant, according to its record; otherwise why it may not."""
    if model.findings.inspection is None:
        return "its file was never inspected"
    if model.findings.inspection.format is Format.ONNX:
        return "it is already in ONNX"
    if model.spec.execution.gpus:
        return "it runs on a GPU"
    if model.spec.calling.method not in ("", "predict") or (model.spec.calling.inputs and model.spec.calling.strict):
        return "its model_config.yaml sets its method or inputs"
    if model.spec.calling.batchable is False:
        return "its owner excluded joining requests in one call"
    if model.findings.inspection.format in (Format.PYTHON, Format.MLFLOW):
        return "it is a folder that its own code loads"
    if not any(pin.distribution in CONVERTIBLE for pin in model.findings.inspection.pins):
        return f"its file names none of {', '.join(CONVERTIBLE)}"
    return ""


def uses(lock: Lock, *distributions: str) -> bool:
    """Return whether the lock contains any of these distributions."""
    return any(line.partition("==")[0] in distributions for line in lock.packages)


async def store(path: Path, content: bytes, readers: Readers) -> None:
    """Store an ONNX file. Raises ConversionRejected if it is not a complete ONNX file, and then leaves nothing."""
    if len(content) > MAX_ONNX_BYTES:
        raise ConversionRejected(f"its ONNX variant is larger than {MAX_ONNX_BYTES >> 20} MiB")
    await asyncio.to_thread(write_atomic, path, content)
    if not await readers.is_onnx(path):
        path.unlink()
        raise ConversionRejected("the converter sent no ONNX file")
