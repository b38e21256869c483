"""Pictures as a model's input: what its signature implies, together with what its owner declares."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from model_container.adapters.base import Adapter, tensor
from model_container.bodies.image_rows import ImageRows
from model_container.contract.config import PredictContract
from model_container.contract.image_input import ANY_IMAGE, ImageInput, Port, image_input


def image_rows(adapter: Adapter, call: PredictContract) -> ImageRows:
    """Return the reader of a model's pictures. Raises TypeError if the owner's declaration contradicts the model."""
    inputs = [
        Port(port["name"], port["datatype"], port["shape"])
        for port in adapter.signature()["inputs"]
        if not port.get("optional")
    ]
    return ImageRows(_image_input(inputs, call))


def image_ports(call: PredictContract) -> List[Dict[str, Any]]:
    """Return the input of a model of one's own code that declares nothing but its pictures; none without them."""
    wanted = _image_input((ANY_IMAGE,), call) if call.image is not None else None
    return [tensor(wanted.name, wanted.datatype, wanted.shape)] if wanted is not None else []


def _image_input(inputs: Sequence[Port], call: PredictContract) -> Optional[ImageInput]:
    try:
        return image_input(inputs, call.image)
    except ValueError as error:
        raise TypeError(f"{call.source or 'its owner'} {error}") from error
