"""How a sound becomes the values of a model's input: as its owner declares it, otherwise as the signature implies.

    (N)                      "n", the samples of one sound
    (B, N), or N columns     "bn", a row of samples for each sound
    (N, C), (C, N)           "nc" and "cn", the samples of one sound in C channels
    (B, C, N), (B, N, C)     "bcn" and "bnc", as PyTorch and TensorFlow take them

A signature alone implies a sound only where the input is named for one: a row of numbers is usually something else. It
never tells the rate at which the model was trained.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import List, NamedTuple, Optional, Sequence

from model_container.contract.image_input import Port

MONO, KEEP = "mono", "keep"
CHANNELS_MAX = 8
RATE_MIN, RATE_MAX = 1_000, 192_000
NAMES = ("audio", "b64")
"""Names under which a request may give a sound beside the input's own."""

ANY_AUDIO = Port(NAMES[0], "FP32", ())
"""Input of a model that knows nothing of its sounds."""

DECLARATION = "`input: {kind: audio, rate: 16000}`"
FULL_SCALE = {"INT8": 128.0, "INT16": 32768.0, "INT32": 32768.0, "INT64": 32768.0}
"""Loudest sample of an input of integers, which is that of 16 bits where there is room for it."""

_SAMPLES_MIN = 160
_NAMED_FOR_SOUND = re.compile(
    r"((input|raw)_?)?(audio|wav|wave|waveform|pcm|speech|sound)(s|_?(in|input|signal|data|samples|values|chunk))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class DeclaredAudio:
    """The owner's declaration, each part of which may be left out.

    rate: in Hz, 0 for the file's own. channels: MONO or KEEP. scale: [factor, divisor], [] if it is left out.
    """

    rate: int = 0
    channels: str = ""
    scale: List[float] = field(default_factory=list)


class _Layout(NamedTuple):
    axes: str
    channels: int
    length: int


@dataclass(frozen=True)
class AudioInput:
    """The steps from a sound to an input: mix to mono or keep the channels, resample to `rate`, multiply, arrange.

    name, datatype: of the input. rate: in Hz, 0 for the file's own. channels: 0 for any number. length: in samples, 0
    for any. axes: of the layout, see above. factor: of the samples, which go from −1 to 1.
    """

    name: str
    datatype: str
    rate: int
    is_mono: bool
    channels: int
    length: int
    axes: str
    factor: float = 1.0

    @property
    def is_one_at_a_time(self) -> bool:
        """Return whether the input holds one sound and no more."""
        return "b" not in self.axes

    @property
    def shape(self) -> List[int]:
        """Return the shape of the input, -1 for any size."""
        sizes = {"b": -1, "c": self.channels or -1, "n": self.length or -1}
        return [sizes[axis] for axis in self.axes]

    @property
    def described(self) -> str:
        """Describe the steps in words, for people who send sounds."""
        rate = f"{self.rate:,} Hz" if self.rate else "its own rate"
        length = f", exactly {self.length:,} samples" if self.length else ""
        channels = "mono" if self.is_mono else f"{self.channels or 'its'} channels"
        return f"{channels} at {rate}{length}, values from {-self.factor:g} to {self.factor:g}"


def audio_input(inputs: Sequence[Port], declared: Optional[DeclaredAudio] = None) -> Optional[AudioInput]:
    """Return how a model takes sounds; None if it takes none.

    inputs: of its signature, without those that may be left out. declared: None leaves everything to the signature.
    Raises ValueError if the declaration contradicts the signature.
    """
    if declared is None:
        return _implied(inputs)
    if not inputs or (len(inputs) > 1 and any(list(port.shape) != [-1] for port in inputs)):
        raise ValueError(f"declares audio, but the model takes {len(inputs)} inputs")
    port = inputs[0] if len(inputs) == 1 else Port(NAMES[0], inputs[0].datatype, (-1, len(inputs)))
    datatype = "FP32" if port.datatype == "ANY" else port.datatype
    if not datatype.startswith(("FP", "BF")) and datatype not in FULL_SCALE:
        raise ValueError(f"declares audio, whose samples are signed numbers, but the model takes {datatype}")
    layout = _layout(port.shape, declared.channels)
    if layout is None:
        raise ValueError(f"declares audio, but the shape {list(port.shape)} of the model's input is no run of samples")
    is_mono = declared.channels != KEEP and layout.channels in (0, 1)
    if declared.channels == MONO and not is_mono:
        raise ValueError(f"declares mono audio, but the model takes {layout.channels} channels")
    factor, divisor = declared.scale or (FULL_SCALE.get(datatype, 1.0), 1.0)
    channels = 1 if is_mono else layout.channels
    return AudioInput(
        port.name, datatype, declared.rate, is_mono, channels, layout.length, layout.axes, factor / divisor
    )


def _implied(inputs: Sequence[Port]) -> Optional[AudioInput]:
    if len(inputs) != 1 or not _NAMED_FOR_SOUND.fullmatch(inputs[0].name):
        return None
    (port,) = inputs
    layout = _layout(port.shape, "")
    is_sound = port.datatype.startswith("FP") or port.datatype == "INT16"
    if layout is None or not is_sound or not port.shape or 0 < layout.length < _SAMPLES_MIN:
        return None
    if layout.axes == "bn" and port.shape[0] not in (-1, 1):  # rows of features, such as a spectrogram's
        return None
    return audio_input(inputs, DeclaredAudio())


def _layout(shape: Sequence[int], channels: str) -> Optional[_Layout]:
    """Return the layout of a shape; None if it holds no run of samples. channels: as declared, "" if that is left out."""
    sizes = [max(size, 0) for size in shape]
    few = [1 <= size <= CHANNELS_MAX for size in sizes]
    if not sizes:
        return _Layout("bcn", 0, 0) if channels == KEEP else _Layout("bn", 1, 0)
    if len(sizes) == 1:
        return None if channels == KEEP else _Layout("n", 1, sizes[0])
    if len(sizes) == 2:
        if few[1]:
            return _Layout("nc", sizes[1], sizes[0])
        if channels == KEEP or (few[0] and sizes[0] > 1 and not channels):
            return _Layout("cn", sizes[0], sizes[1]) if few[0] or not sizes[0] else None
        return _Layout("bn", 1, sizes[1])
    if len(sizes) == 3 and few[2]:
        return _Layout("bnc", sizes[2], sizes[1])
    if len(sizes) == 3 and (few[1] or not sizes[1]):
        return _Layout("bcn", sizes[1], sizes[2])
    return None
