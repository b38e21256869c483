"""Tensors as bytes: the binary tensor data extension of the Open Inference Protocol.

Little-endian, row-major, without padding. A BOOL is one byte. Each element of BYTES is preceded by its length in
4 bytes. numpy has no bfloat16, so its numbers are float32 here.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Dict, Sequence, Tuple, Union

import numpy as np

from model_container.bodies.problems import Problem
from model_container.bodies.values import DTYPES

Text = Union[str, bytes]
"""Element of BYTES: a string, or bytes that are not valid UTF-8."""

_LENGTH = struct.Struct("<I")
_WIRE: Dict[str, Any] = {
    **{name: dtype.newbyteorder("<") for name, dtype in DTYPES.items()},
    "BF16": np.dtype("<u2"),
    "BOOL": np.dtype(np.uint8),
}


def array_from(raw: bytes, name: str, datatype: str, shape: Tuple[int, ...]) -> Any:
    """Decode the input `name` to an array with its own memory; BYTES become an array of Text.

    Raises Problem if `raw` is not exactly a tensor of that datatype and shape.
    """
    if datatype == "BYTES":
        return _texts_from(raw, name, shape)
    dtype, size = _WIRE[datatype], math.prod(shape) * _WIRE[datatype].itemsize
    if len(raw) != size:
        raise _wrong_size(name, len(raw), f"{datatype} of shape {list(shape)} needs {size}")
    array = np.frombuffer(raw, dtype).reshape(shape)
    if datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(DTYPES[datatype])


def _texts_from(raw: bytes, name: str, shape: Tuple[int, ...]) -> Any:
    count, position = math.prod(shape), 0
    if count > len(raw) // _LENGTH.size:
        raise _wrong_size(name, len(raw), f"BYTES of shape {list(shape)} needs {count * _LENGTH.size} or more")
    array = np.empty(count, dtype=object)
    for index in range(count):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(raw, position)[0] if start <= len(raw) else start
        if position > len(raw):
            raise _wrong_size(name, len(raw), f"they end within element {index} of {count}")
        array[index] = _text(raw[start:position])
    if position != len(raw):
        raise _wrong_size(name, len(raw), f"its {count} elements need {position}")
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
    """Encode an array of any shape as a tensor of numbers or booleans."""
    bits = bf16_bits(array) if datatype == "BF16" else array
    return np.ascontiguousarray(bits, dtype=_WIRE[datatype]).tobytes()


def bytes_from_texts(texts: Sequence[Text]) -> bytes:
    """Encode a tensor of BYTES.

    A character that UTF-8 cannot encode, such as a lone surrogate, becomes a question mark.
    """
    raws = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in texts]
    return b"".join([part for raw in raws for part in (_LENGTH.pack(len(raw)), raw)])


def bf16_bits(array: Any) -> Any:
    """Convert to bfloat16 bits, rounding to nearest, ties to even, as in IEEE 754."""
    bits = np.ascontiguousarray(array, dtype=np.float32).reshape(np.shape(array)).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
