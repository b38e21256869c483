"""Pictures where a request gives rows: files, base64 and data URLs become the array that the model's input takes."""

from __future__ import annotations

import binascii
from typing import Any, List, Optional, Sequence, Union

import numpy as np

from model_container.bodies.content import Content, Named, Rows, no_rows
from model_container.bodies.image_file import opened, too_large, unreadable, values_of
from model_container.bodies.problems import Problem, shown
from model_container.contract.image_input import NAMES, ImageInput

PIXELS_MAX = 200_000_000
"""Pixels that all pictures of one request may have together: a small file can hold many, and decoding takes seconds."""

VALUES_MAX = 1 << 25
"""Values that all pictures of one request may become together: 128 MiB of FP32, 222 images of 3 × 224 × 224."""

_DATA_URL = "data:"
_URL_SAFE = str.maketrans("-_", "+/")

Picture = Union[bytes, str]


class ImageRows:
    """Reader of the pictures of one model. wanted: None if its input is none."""

    def __init__(self, wanted: Optional[ImageInput]) -> None:
        self._wanted = wanted
        self._names = frozenset(NAMES if wanted is None else (*NAMES, wanted.name))

    def content(self, content: Content) -> Content:
        """Return the content with its pictures as an array; unchanged if it has none.

        Raises Problem for what is no picture, and for pictures that the model does not take.
        """
        if self._wanted is None:
            if isinstance(content, Rows) and _are_files(content.values):
                raise takes_no_images()
            return content
        pictures = self._pictures(content)
        return content if pictures is None else Rows(self._array(pictures, self._wanted))

    def _pictures(self, content: Content) -> Optional[List[Picture]]:
        values: Any = content.values
        if isinstance(content, Named):
            if len(content.values) != 1 or self._names.isdisjoint(content.values):
                return None
            (values,) = content.values.values()
        if isinstance(values, np.ndarray):
            if values.dtype.kind != "O":
                return None
            values = values.ravel().tolist()
        values = values if isinstance(values, list) else [values]
        while values and all(type(value) is list and len(value) == 1 for value in values):
            values = [value[0] for value in values]
        return values if values and all(isinstance(value, (bytes, str)) for value in values) else None

    def _array(self, pictures: Sequence[Picture], wanted: ImageInput) -> Any:
        images = [opened(_bytes_of(picture, row), row) for row, picture in enumerate(pictures)]
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


def takes_no_images() -> Problem:
    return Problem(
        415,
        "takes_no_images",
        "This model takes no images: its input does not have the shape of one.",
        "Send JSON. If its input is an image all the same, say so in model_config.yaml: "
        "`input: {kind: image, size: [224, 224]}`.",
    )


def _are_files(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and type(values[0]) is bytes


def _bytes_of(picture: Picture, row: int) -> bytes:
    """Return a picture's bytes. Raises Problem for a text that is neither base64 nor a data URL of base64."""
    if isinstance(picture, bytes):
        return picture
    text = picture.strip()
    if text[: len(_DATA_URL)].lower() == _DATA_URL:
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise unreadable(row, "its data URL is not in base64")
    if not text:
        raise no_rows() if not picture else unreadable(row, "its data URL is empty")
    if text[:8].lower().startswith(("http://", "https://")):
        raise Problem(
            422,
            "not_an_image",
            f"Row {row} is the address {shown(text)}, which is not fetched.",
            "Send the image itself: as a file, as base64, or as a data URL.",
            row=row,
        )
    try:
        return _from_base64("".join(text.split()).translate(_URL_SAFE))
    except (binascii.Error, ValueError):
        raise unreadable(row, f"{shown(text[:40])} is not base64") from None


def _from_base64(text: str) -> bytes:
    """Decode base64, with or without its padding. Raises ValueError for other characters."""
    if not text.isascii() or any(character not in _ALPHABET for character in set(text)):
        raise ValueError(text[:10])
    return binascii.a2b_base64(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))


_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def _too_many(count: int, most: int) -> Problem:
    return Problem(
        413,
        "image_too_large",
        f"The request has {count} images; the values of {most} fit into one request.",
        "Send them in several requests.",
    )
