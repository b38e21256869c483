"""Pictures of a request: image files become the array that the model's input takes."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np

from model_container.bodies.image_file import opened, too_large, unreadable, values_of
from model_container.bodies.problems import Problem
from model_container.contract.audio_input import DECLARATION
from model_container.contract.file_types import AUDIO, file_type_of
from model_container.contract.image_input import NAMES, ImageInput

PIXELS_MAX = 200_000_000
"""Pixels that all pictures of one request may have together: a small file can hold many, and decoding takes seconds."""

VALUES_MAX = 1 << 25
"""Values that all pictures of one request may become together: 128 MiB of FP32, 222 images of 3 × 224 × 224."""


class ImageReader:
    """Reader of the pictures of one model."""

    is_one_at_a_time = False

    def __init__(self, wanted: ImageInput) -> None:
        self._wanted = wanted
        self.names = frozenset((*NAMES, wanted.name))

    def array(self, files: Sequence[bytes]) -> Any:
        """Return the values of all pictures in the shape of the input. Raises Problem."""
        wanted = self._wanted
        for row, file in enumerate(files):
            file_type = file_type_of(file)
            if file_type is not None and file_type.kind == AUDIO:
                raise _is_sound(row)
        images = [opened(file, row) for row, file in enumerate(files)]
        if sum(image.width * image.height for image in images) > PIXELS_MAX:
            raise too_large("The request's images together have", PIXELS_MAX)
        if wanted.width and len(images) * wanted.width * wanted.height * wanted.channels > VALUES_MAX:
            most = max(1, VALUES_MAX // (wanted.width * wanted.height * wanted.channels))
            raise _too_many(len(images), most)
        rows: List[Any] = []
        for row, image in enumerate(images):
            rows.append(values_of(image, wanted, row))
            if sum(values.size for values in rows) > VALUES_MAX:
                raise _too_many(len(images), row)
        if len({values.shape for values in rows}) > 1:
            raise Problem(
                422,
                "ragged_rows",
                "The images differ in size, and the model takes each in its own size.",
                "Send images of another size in a request of their own.",
            )
        return np.stack(rows)

    def unreadable(self, row: int, reason: str = "") -> Problem:
        return unreadable(row, reason)


def takes_no_images() -> Problem:
    return Problem(
        415,
        "takes_no_images",
        "This model takes no images: its input does not have the shape of one.",
        "Send JSON. If its input is an image all the same, say so in model_config.yaml: "
        "`input: {kind: image, size: [224, 224]}`.",
    )


def _is_sound(row: int) -> Problem:
    return Problem(
        422,
        "not_an_image",
        f"Row {row} is a WAV file; this model takes images.",
        f"If its input is a run of samples, write {DECLARATION} into model_config.yaml.",
        row=row,
    )


def _too_many(count: int, most: int) -> Problem:
    return Problem(
        413,
        "image_too_large",
        f"The request has {count} images; the values of {most} fit into one request.",
        "Send them in several requests.",
    )
