"""Images written byte by byte, and graphs that take them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""PNG's colour type by the number of channels: grey, RGB, RGBA."""


def png(pixels: Any, *chunks: tuple[bytes, bytes], colour_type: int | None = None) -> bytes:
    """A PNG of (height, width) or (height, width, channels) pixels of 8 or 16 bits. chunks: before the pixels."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    kind = COLOUR_TYPES[channels] if colour_type is None else colour_type
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    data = b"".join(b"\x00" + row.tobytes() for row in rows)
    return png_of(width, height, pixels.dtype.itemsize * 8, kind, zlib.compress(data), *chunks)


def png_of(width: int, height: int, depth: int, kind: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def turned(orientation: int) -> tuple[bytes, bytes]:
    """EXIF data that say how an image is to be turned."""
    return b"eXIf", b"MM\x00\x2a\x00\x00\x00\x08\x00\x01" + struct.pack(">HHIHHI", 0x112, 3, 1, orientation, 0, 0)


def _saved(path: Path, nodes: Sequence[Any], shape: list[Any], made: list[Any], **constants: Any) -> Path:
    ports = [helper.make_tensor_value_info("image", FLOAT, shape), helper.make_tensor_value_info("made", FLOAT, made)]
    kept = [
        helper.make_tensor(name, FLOAT, value.shape, value.astype(np.float32).ravel())
        for name, value in constants.items()
    ]
    graph = helper.make_graph(list(nodes), "g", ports[:1], ports[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def graph_of_pixels(path: Path) -> Path:
    """A graph that answers the values that it gets, of an image of any size."""
    shape = ["n", 3, "height", "width"]
    return _saved(path, [helper.make_node("Identity", ["image"], ["made"])], shape, shape)


def small_network(path: Path) -> Path:
    """A convolution over 224 × 224 pixels of RGB, and shares of ten classes."""
    random = np.random.RandomState(7)
    nodes = [
        helper.make_node("Conv", ["image", "kernels"], ["found"], strides=[4, 4]),
        helper.make_node("Relu", ["found"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["made"]),
    ]
    weights = {"kernels": random.randn(8, 3, 7, 7) / 10, "weights": random.randn(8, 10) * 3}
    return _saved(path, nodes, ["n", 3, 224, 224], ["n", 10], **weights)
