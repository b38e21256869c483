"""WAV files written byte by byte, and graphs that answer what they get of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def wav(samples: Any, rate: int = 16_000, bits: int = 16, code: int = PCM, data_size: int | None = None) -> bytes:
    """A WAV of (frames,) or (frames, channels) samples from −1 to 1. data_size: as written, by default the right one."""
    frames = samples.reshape(len(samples), -1)
    data = _data(frames, bits, FLOAT if code == FLOAT else PCM)
    width = frames.shape[1] * bits // 8
    head = struct.pack("<HHIIHH", code, frames.shape[1], rate, rate * width, width, bits)
    if code == EXTENSIBLE:
        head += struct.pack("<HHIH", 22, bits, 0, PCM) + GUID_TAIL
    return wav_of(head, data, data_size)


def wav_of(head: bytes, data: bytes, data_size: int | None = None) -> bytes:
    size = len(data) if data_size is None else data_size
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _data(frames: Any, bits: int, code: int) -> bytes:
    if code == FLOAT:
        return bytes(frames.astype(f"<f{bits // 8}").tobytes())
    numbers = np.rint(frames * (1 << (bits - 1))).clip(-(1 << (bits - 1)), (1 << (bits - 1)) - 1).astype("<i8")
    if bits == 8:
        return bytes((numbers + 128).astype(np.uint8).tobytes())
    return bytes(numbers.view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes())


def tone(hertz: float, rate: int, seconds: float = 0.5) -> Any:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def graph_of_samples(path: Path, shape: list[Any], name: str = "samples", datatype: int = TensorProto.FLOAT) -> Path:
    """A graph that answers the values that it gets."""
    ports = [helper.make_tensor_value_info(each, datatype, shape) for each in (name, "made")]
    graph = helper.make_graph([helper.make_node("Identity", [name], ["made"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path
