"""Tensors as bytes: the binary tensor data extension of the Open Inference Protocol.

Little-endian, row-major, nothing in between. A BOOL is one byte; an element of BYTES stands behind its length of
4 bytes. numpy knows no bfloat16: its numbers are float32 here.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Dict, Sequence, Tuple, Union

import numpy as np

from model_container.bodies.problems import Problem
from model_container.bodies.values import DTYPES

Text = Union[str, bytes]
"""An element of BYTES: a string, or the bytes of what is no UTF-8."""

_LENGTH = struct.Struct("<I")
_WIRE: Dict[str, Any] = {
    **{name: dtype.newbyteorder("<") for name, dtype in DTYPES.items()},
    "BF16": np.dtype("<u2"),
    "BOOL": np.dtype(np.uint8),
}


def array_from(raw: bytes, name: str, datatype: str, shape: Tuple[int, ...]) -> Any:
    """The input `name` as an array of its own memory; of BYTES as an array of Text.

    Raises Problem if `raw` is not exactly a tensor of that datatype and shape.
    """
    if datatype == "BYTES":
        return _texts_from(raw, name, shape)
    dtype, size = _WIRE[datatype], math.prod(shape) * _WIRE[datatype].itemsize
    if len(raw) != size:
        raise _wrong_size(name, len(raw), f"{datatype} of shape {list(shape)} takes {size}")
    array = np.frombuffer(raw, dtype).reshape(shape)
    if datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(DTYPES[datatype])


def _texts_from(raw: bytes, name: str, shape: Tuple[int, ...]) -> Any:
    count, position = math.prod(shape), 0
    if count > len(raw) // _LENGTH.size:
        raise _wrong_size(name, len(raw), f"BYTES of shape {list(shape)} take {count * _LENGTH.size} or more")
    array = np.empty(count, dtype=object)
    for index in range(count):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(raw, position)[0] if start <= len(raw) else start
        if position > len(raw):
            raise _wrong_size(name, len(raw), f"they end within element {index} of {count}")
        array[index] = _text(raw[start:position])
    if position != len(raw):
        raise _wrong_size(name, len(raw), f"its {count} elements take {position}")
    return array.reshape(shape)


def _text(element: bytes) -> Text:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return element


def _wrong_size(name: str, size: int, wanted: str) -> Problem:
    return Problem(
        400,
        "wrong_binary_size",
        f"The binary data of {name!r} has {size} bytes; {wanted}.",
        "Send the elements in row-major, little-endian order, and their size in bytes as binary_data_size.",
    )


def bytes_from(array: Any, datatype: str) -> bytes:
    """An array of any shape as a tensor of numbers or truth values."""
    bits = bf16_bits(array) if datatype == "BF16" else array
    return np.ascontiguousarray(bits, dtype=_WIRE[datatype]).tobytes()


def bytes_from_texts(texts: Sequence[Text]) -> bytes:
    """A tensor of BYTES. What no encoding knows, as a lone surrogate, becomes a question mark."""
    raws = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in texts]
    return b"".join([part for raw in raws for part in (_LENGTH.pack(len(raw)), raw)])


def bf16_bits(array: Any) -> Any:
    """Rounded to the nearest, ties to even, as IEEE 754 does."""
    bits = np.ascontiguousarray(array, dtype=np.float32).reshape(np.shape(array)).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
