"""Which files become a model's input: images or sounds."""

from __future__ import annotations

from typing import Optional, Sequence, Union

from model_container.contract.audio_input import AudioInput, DeclaredAudio, audio_input
from model_container.contract.image_input import DeclaredImage, ImageInput, Port, image_input

FileInput = Union[ImageInput, AudioInput]


def file_input(
    inputs: Sequence[Port], image: Optional[DeclaredImage] = None, audio: Optional[DeclaredAudio] = None
) -> Optional[FileInput]:
    """Return how a model takes files; None if it takes none.

    What its owner declares decides, then the name of the input, then its shape. Raises ValueError if the declaration
    contradicts the signature.
    """
    if image is not None:
        return image_input(inputs, image)
    return audio_input(inputs, audio) or image_input(inputs)
