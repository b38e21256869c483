"""Decoding of a picture to an array of pixels, and of the pixels to the values of an input.

Pillow is imported with the first picture: models whose input only has the shape of one do without it. A picture is
hostile: its formats are three, its size is checked before it is decoded, and what Pillow raises is the request's problem.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from model_container.bodies.problems import Problem
from model_container.contract.image_input import OWN_SIZE_MAX, ImageInput

FORMATS = ("PNG", "JPEG", "WEBP")
PIXELS_MAX = 50_000_000
"""Largest picture: four times that of a usual camera. Decoded, it takes up to 200 MB."""

REASON_MAX = 120
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


def opened(content: bytes, row: int) -> Any:
    """Read a picture's head and return Pillow's image, whose pixels are yet to be decoded.

    row: place of the picture in the request, for problems. Raises Problem.
    """
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            image = pillow.open(io.BytesIO(content), formats=FORMATS)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
        raise too_large(f"The image in row {row} has", PIXELS_MAX) from None
    except Exception as error:  # a hostile head raises whatever its parser runs into
        reason = "" if isinstance(error, pillow.UnidentifiedImageError) else _reason(error)
        raise unreadable(row, reason) from None
    if image.width * image.height > PIXELS_MAX:
        raise too_large(f"The image in row {row} has", PIXELS_MAX)
    return image


def values_of(image: Any, wanted: ImageInput, row: int) -> Any:
    """Decode a picture and return the values for one row of the input. Raises Problem."""
    try:
        return _arranged(_pixels(image, wanted), wanted)
    except Problem:
        raise
    except MemoryError:
        pixels = image.width * image.height
        raise too_large(f"The image in row {row} does not fit into the model's memory: it has", pixels) from None
    except Exception as error:  # as for the head
        raise unreadable(row, _reason(error)) from None


def _pillow() -> Any:
    try:
        from PIL import Image  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise Problem(
            415,
            "pillow_missing",
            "This model's environment was built without Pillow, which decodes images.",
            "Deploy the model again, with `pillow` among its requirements; or send the pixels as numbers.",
        ) from None
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    return Image


def _pixels(image: Any, wanted: ImageInput) -> Any:
    """Return the pixels as bytes: (height, width) of grey, otherwise (height, width, channels)."""
    from PIL import ImageOps  # type: ignore[import-not-found,unused-ignore]

    size = _size(image, wanted)
    if image.format == "JPEG":
        image.draft(None, (2 * max(size), 2 * max(size)))  # decodes a far larger picture at a fraction of its size
    image = ImageOps.exif_transpose(image)
    image = _in_mode(image, "RGB" if wanted.mode == "BGR" else wanted.mode)
    size = _size(image, wanted) if not wanted.width else size
    if image.size != size:
        image = image.resize(size, _pillow().BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(image)
    return pixels[..., ::-1] if wanted.mode == "BGR" else pixels


def _size(image: Any, wanted: ImageInput) -> Any:
    """Return the (width, height) that the picture is to have."""
    if wanted.width:
        return (wanted.width, wanted.height)
    shrink = min(1.0, OWN_SIZE_MAX / max(image.size))
    return tuple(max(1, round(side * shrink)) for side in image.size)


def _in_mode(image: Any, mode: str) -> Any:
    """Convert to a mode of 8 bits a channel. What is transparent becomes white, unless the mode has alpha."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        image = _pillow().fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if mode != "RGBA" and (image.mode in _WITH_ALPHA or "transparency" in image.info):
        image = image.convert("RGBA")
        paper = _pillow().new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        image = paper
    return image if image.mode == mode else image.convert(mode)


def _arranged(pixels: Any, wanted: ImageInput) -> Any:
    """Return the values in the order and of the kind that the input takes."""
    if wanted.layout == "flat":
        pixels = pixels.reshape(-1, wanted.channels)
    elif wanted.layout == "chw":
        pixels = pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    elif wanted.layout == "hwc" and pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    values = _normalised(pixels, wanted)
    return values.ravel() if wanted.layout == "flat" else values


def _normalised(pixels: Any, wanted: ImageInput) -> Any:
    is_unchanged = wanted.factor == wanted.divisor and not wanted.mean and not wanted.std
    if is_unchanged:
        return pixels
    values = pixels.astype(np.float64 if wanted.datatype == "FP64" else np.float32)
    if wanted.factor != 1:
        values *= wanted.factor
    values /= wanted.divisor
    by_channel = (-1, 1, 1) if wanted.layout == "chw" else (-1,)
    if wanted.mean:
        values -= np.array(wanted.mean, values.dtype).reshape(by_channel)
    if wanted.std:
        values /= np.array(wanted.std, values.dtype).reshape(by_channel)
    is_float = wanted.datatype.startswith(("FP", "BF"))
    return values if is_float else np.rint(values).astype(np.int64)


def too_large(what: str, pixels: int) -> Problem:
    return Problem(
        413,
        "image_too_large",
        f"{what} more than {pixels // 1_000_000} million pixels.",
        "Scale it down, or send several images in requests of their own.",
    )


def unreadable(row: int, reason: str = "") -> Problem:
    return Problem(
        422,
        "not_an_image",
        f"Row {row} is not a PNG, JPEG or WebP image{f' that can be read: {reason}' if reason else ''}.",
        "Send the file's bytes unchanged, or as base64 in JSON.",
        row=row,
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= REASON_MAX else text[: REASON_MAX - 1] + "…"
