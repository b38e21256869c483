"""Makes what a runtime is told of how its model is called, and on what it computes."""

from __future__ import annotations

from typing import Any

from app.core.audio import AudioSpec
from app.core.image import ImageSpec, listed
from app.core.inspection import Format
from app.core.model import Limits, ModelVersion, Variant, VariantName
from app.core.model import PredictContract as Calling
from app.core.signature import Tensor
from model_container.contract.audio_input import DeclaredAudio
from model_container.contract.config import PredictContract
from model_container.contract.file_input import FileInput, file_input
from model_container.contract.image_input import DeclaredImage, ImageInput, Port


def contract_of(model: ModelVersion, variant: Variant) -> PredictContract:
    """Return how a variant is called. An accelerated one has all that it needs in its own file."""
    calling = model.spec.calling
    image, audio = _declared_image(calling.image), _declared_audio(calling.audio)
    if variant.name is VariantName.ACCELERATED:
        return PredictContract(image=image, audio=audio, source=calling.source)
    return PredictContract(
        method=calling.method,
        batchable=calling.batchable,
        inputs=[_port(tensor) for tensor in calling.inputs],
        outputs=[_port(tensor) for tensor in calling.outputs],
        image=image,
        audio=audio,
        source=calling.source,
        strict=calling.strict,
    )


def file_input_of(model: ModelVersion) -> FileInput | None:
    """Return how a model takes images or sounds, as far as that is known; None if it takes none."""
    signature = model.findings.signature
    inputs = model.spec.calling.inputs if signature is None else signature.inputs
    return _file_input(inputs, model.spec.calling)


def declares_image(calling: Calling) -> bool:
    """Return whether the owner, or MLflow, declares an input that may be an image."""
    return calling.image is not None or isinstance(_file_input(calling.inputs, calling), ImageInput)


def _file_input(inputs: tuple[Tensor, ...], calling: Calling) -> FileInput | None:
    ports = [Port(tensor.name, tensor.datatype, tensor.shape) for tensor in inputs if not tensor.optional]
    try:
        return file_input(ports, _declared_image(calling.image), _declared_audio(calling.audio))
    except ValueError:  # the runtime refuses to start, and says why
        return None


def _declared_image(image: ImageSpec | None) -> DeclaredImage | None:
    if image is None:
        return None
    return DeclaredImage(image.sides, image.mode, image.layout, image.fraction, listed(image.mean), listed(image.std))


def _declared_audio(audio: AudioSpec | None) -> DeclaredAudio | None:
    return None if audio is None else DeclaredAudio(audio.rate, audio.channels, audio.fraction)


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
