"""Images and sounds as a model's input: what its signature implies, together with what its owner declares."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from model_container.adapters.base import Adapter, tensor
from model_container.bodies.audio_rows import AudioReader
from model_container.bodies.file_rows import FileReader, FileRows
from model_container.bodies.image_rows import ImageReader
from model_container.contract.audio_input import ANY_AUDIO, AudioInput
from model_container.contract.config import PredictContract
from model_container.contract.file_input import FileInput, file_input
from model_container.contract.image_input import ANY_IMAGE, ImageInput, Port


def file_rows(adapter: Adapter, call: PredictContract) -> FileRows:
    """Return the reader of a model's files. Raises TypeError if the owner's declaration contradicts the model."""
    inputs = [
        Port(port["name"], port["datatype"], port["shape"])
        for port in adapter.signature()["inputs"]
        if not port.get("optional")
    ]
    return FileRows(_reader(_file_input(inputs, call)))


def file_ports(call: PredictContract) -> List[Dict[str, Any]]:
    """Return the input of a model of one's own code that declares nothing but its files; none without them."""
    if call.image is None and call.audio is None:
        return []
    wanted = _file_input((ANY_AUDIO if call.image is None else ANY_IMAGE,), call)
    return [tensor(wanted.name, wanted.datatype, wanted.shape)] if wanted is not None else []


def _reader(wanted: Optional[FileInput]) -> Optional[FileReader]:
    if isinstance(wanted, ImageInput):
        return ImageReader(wanted)
    return AudioReader(wanted) if isinstance(wanted, AudioInput) else None


def _file_input(inputs: Sequence[Port], call: PredictContract) -> Optional[FileInput]:
    try:
        return file_input(inputs, call.image, call.audio)
    except ValueError as error:
        raise TypeError(f"{call.source or 'its owner'} {error}") from error
