"""Decoding of a WAV file to samples: PCM of 8 to 32 bits and IEEE floats, by numpy alone.

The standard library's `wave` knows no floats, and no extensible head before Python 3.12. A file is hostile: every
length in it is checked against the bytes that are there, and nothing is allocated by its word.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, NamedTuple, Tuple

import numpy as np

from model_container.contract.audio_input import CHANNELS_MAX, RATE_MAX, RATE_MIN
from model_container.contract.file_types import file_type_of

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_COMPRESSIONS = {
    2: "ADPCM",
    6: "A-law",
    7: "mu-law",
    17: "IMA ADPCM",
    49: "GSM 6.10",
    80: "MPEG",
    85: "MP3",
    255: "AAC",
}
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
"""Sizes of the data that programs write which do not know it yet, such as ffmpeg into a pipe."""

_HEAD = struct.Struct("<HHIIHH")
_CHUNK = struct.Struct("<4sI")


class NotAWav(ValueError):
    """Error that says why a file is no WAV that is read."""


class Sound(NamedTuple):
    """Decoded sound. samples: (frames, channels), from −1 to 1. rate: in Hz."""

    samples: Any
    rate: int


class _Format(NamedTuple):
    code: int
    channels: int
    rate: int
    bits: int


def sound_of(content: bytes, frames_max: int) -> Sound:
    """Decode a file to numbers of 32 bits. Raises NotAWav, and OverflowError with the number of frames over frames_max."""
    file_type = file_type_of(content)
    if file_type is None or file_type.content_type != "audio/wav":
        raise NotAWav("")
    chunks = _chunks(content)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise NotAWav("it has no samples")
    found = _format(content[slice(*chunks[b"fmt "])])
    start, end = chunks[b"data"]
    width = found.bits // 8 * found.channels
    frames = (end - start) // width
    if frames > frames_max:
        raise OverflowError(frames)
    if not frames:
        raise NotAWav("it has no samples")
    samples = _samples(content[start : start + frames * width], found)
    if not np.isfinite(samples).all():
        raise NotAWav("some of its samples are no numbers")
    return Sound(samples.reshape(frames, found.channels), found.rate)


def _chunks(content: bytes) -> Dict[bytes, Tuple[int, int]]:
    """Return where the content of each chunk begins and ends, up to that of the samples."""
    chunks: Dict[bytes, Tuple[int, int]] = {}
    position = 12
    while position + _CHUNK.size <= len(content) and b"data" not in chunks:
        name, size = _CHUNK.unpack_from(content, position)
        start = position + _CHUNK.size
        if name == b"data" and size in _UNKNOWN_SIZES:
            size = len(content) - start
        if start + size > len(content):
            raise NotAWav("it ends too early")
        chunks[name] = (start, start + size)
        position = start + size + size % 2
    return chunks


def _format(head: bytes) -> _Format:
    if len(head) < _HEAD.size:
        raise NotAWav("its head is too short")
    code, channels, rate, _, _, bits = _HEAD.unpack_from(head)
    if code == _EXTENSIBLE and len(head) >= 26:
        code = int.from_bytes(head[24:26], "little")
    if code not in (_PCM, _FLOAT):
        name = _COMPRESSIONS.get(code, f"format {code}")
        raise NotAWav(f"its samples are compressed ({name})")
    if bits not in ((8, 16, 24, 32) if code == _PCM else (32, 64)):
        raise NotAWav(f"its samples have {bits} bits")
    if not 1 <= channels <= CHANNELS_MAX:
        raise NotAWav(f"it has {channels} channels")
    if not RATE_MIN <= rate <= RATE_MAX:
        raise NotAWav(f"its rate is {rate:,} Hz")
    return _Format(code, channels, rate, bits)


def _samples(data: bytes, found: _Format) -> Any:
    """Return the samples of all channels, one after another, from −1 to 1."""
    if found.code == _FLOAT:
        with np.errstate(over="ignore"):
            return np.frombuffer(data, "<f4" if found.bits == 32 else "<f8").astype(np.float32)
    if found.bits == 8:  # the only unsigned samples
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if found.bits == 24:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view("<i4").ravel().astype(np.float32) / np.float32(1 << 31)
    numbers = np.frombuffer(data, f"<i{found.bits // 8}")
    return numbers.astype(np.float32) / np.float32(1 << (found.bits - 1))
