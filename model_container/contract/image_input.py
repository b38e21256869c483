"""How a picture becomes the values of a model's input: as its owner declares it, otherwise as the signature implies.

The gateway and the runtime derive it from the same signature, so the page shows what the runtime does.

    (N, 1|3|4, H, W)       "chw", as PyTorch takes images
    (N, H, W, 1|3|4)       "hwc", as TensorFlow does
    (N, H, H)              "hw"
    (N, K), or K columns   "flat", where K is the square of at least 8 and the columns, if named, are called pixels
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, List, NamedTuple, Optional, Sequence

CHANNELS = {"L": 1, "RGB": 3, "BGR": 3, "RGBA": 4}
LAYOUTS = ("chw", "hwc", "hw", "flat")
SIDE_MIN = 8
SIDE_MAX = 4096
OWN_SIZE_MAX = 1024
"""Longest side of a picture that keeps its own size, because the input takes any: a larger one is scaled down to it."""

WHITE = 255
NAMES = ("image", "b64")
"""Names under which a request may give a picture beside the input's own."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_PIXEL = re.compile(r"(pixel|pix|px)[ _-]?\d+([ _x-]\d+)?", re.IGNORECASE)
_DIGITS_SIDE, _DIGITS_WHITE = 8, 16.0
"""Size of scikit-learn's digits, and the value of their white: the only grey images of that size that models know."""


class Port(NamedTuple):
    """Input of a signature."""

    name: str
    datatype: str
    shape: Sequence[int]


ANY_IMAGE = Port(NAMES[0], "FP32", ())
"""Input of a model that knows nothing of its pictures."""


@dataclass(frozen=True)
class DeclaredImage:
    """The owner's declaration, each part of which may be left to the signature.

    size: [height, width], [] if it is left out. mode: of CHANNELS. layout: of LAYOUTS. scale: [factor, divisor], [] if
    it is left out. mean, std: one number, or one for each channel.
    """

    size: List[int] = field(default_factory=list)
    mode: str = ""
    layout: str = ""
    scale: List[float] = field(default_factory=list)
    mean: List[float] = field(default_factory=list)
    std: List[float] = field(default_factory=list)


@dataclass(frozen=True)
class ImageInput:
    """The steps from a picture to an input: convert to `mode`, resize, (pixel · factor / divisor − mean) / std, arrange.

    name, datatype: of the input. height, width: 0 for the picture's own.
    """

    name: str
    datatype: str
    height: int
    width: int
    mode: str
    layout: str
    factor: float = 1.0
    divisor: float = 1.0
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    @property
    def channels(self) -> int:
        return CHANNELS[self.mode]

    @property
    def shape(self) -> List[int]:
        """Return the shape of the input, -1 for any size."""
        height, width = self.height or -1, self.width or -1
        if self.layout == "flat":
            return [-1, height * width * self.channels]
        if self.layout == "hw":
            return [-1, height, width]
        return [-1, self.channels, height, width] if self.layout == "chw" else [-1, height, width, self.channels]

    @property
    def described(self) -> str:
        """Describe the steps in words, for people who send pictures."""
        size = f"{self.width} × {self.height} pixels" if self.width else f"their own size up to {OWN_SIZE_MAX} pixels"
        colours = {"L": "grey", "RGB": "RGB", "BGR": "BGR", "RGBA": "RGB and alpha"}[self.mode]
        white = WHITE * self.factor / self.divisor
        steps = f"{size}, {colours}, values from 0 to {white:g}"
        if self.mean or self.std:
            steps += f", then less {_listed(self.mean) or 0} and divided by {_listed(self.std) or 1}"
        return steps


def image_input(inputs: Sequence[Port], declared: Optional[DeclaredImage] = None) -> Optional[ImageInput]:
    """Return how a model takes pictures; None if it takes none.

    inputs: of its signature, without those that may be left out. declared: None leaves everything to the signature.
    Raises ValueError if the declaration contradicts the signature.
    """
    found = _implied(inputs)
    if declared is None:
        return found
    if found is None:
        found = _unimplied(inputs, declared)
    height, width = declared.size or (found.height, found.width)
    mode = declared.mode or found.mode
    factor, divisor = declared.scale or (found.factor, found.divisor)
    layout = declared.layout or found.layout
    made = ImageInput(
        found.name, found.datatype, height, width, mode, layout, factor, divisor, declared.mean, declared.std
    )
    _check(made, inputs)
    return made


def _implied(inputs: Sequence[Port]) -> Optional[ImageInput]:
    if not inputs or any(port.datatype in ("BYTES", "BOOL", "ANY") for port in inputs):
        return None
    if len(inputs) > 1:
        return _flat_columns(inputs)
    name, datatype, shape = inputs[0]
    sizes = list(shape[1:])
    if len(sizes) == 1:
        return _flat(name, datatype, sizes[0])
    if len(sizes) == 2:
        return _made(name, datatype, sizes, "L", "hw") if sizes[0] == sizes[1] and sizes[0] >= SIDE_MIN else None
    if len(sizes) != 3:
        return None
    for channels, size, layout in ((sizes[0], sizes[1:], "chw"), (sizes[2], sizes[:2], "hwc")):
        if channels in _MODES and all(side == -1 or SIDE_MIN <= side <= SIDE_MAX for side in size):
            return _made(name, datatype, size, _MODES[channels], layout)
    return None


def _flat_columns(inputs: Sequence[Port]) -> Optional[ImageInput]:
    generated = all(port.name == f"feature{index + 1}" for index, port in enumerate(inputs))
    if any(list(port.shape) != [-1] for port in inputs) or not (
        generated or all(_PIXEL.fullmatch(port.name) for port in inputs)
    ):
        return None
    return _flat(NAMES[0], inputs[0].datatype, len(inputs))


def _flat(name: str, datatype: str, width: int) -> Optional[ImageInput]:
    side = math.isqrt(max(width, 0))
    if side * side != width or not SIDE_MIN <= side <= SIDE_MAX:
        return None
    return _made(name, datatype, (side, side), "L", "flat")


def _made(name: str, datatype: str, size: Sequence[int], mode: str, layout: str) -> ImageInput:
    height, width = (0, 0) if -1 in size else size
    factor, divisor = 1.0, float(WHITE) if datatype.startswith(("FP", "BF")) else 1.0
    if mode == "L" and height == width == _DIGITS_SIDE:
        factor, divisor = _DIGITS_WHITE, float(WHITE)
    return ImageInput(name, datatype, height, width, mode, layout, factor, divisor)


def _unimplied(inputs: Sequence[Port], declared: DeclaredImage) -> ImageInput:
    """Return the usual choices for an input whose shape implies no picture, such as one of any sizes."""
    if len(inputs) != 1 and not (inputs and all(list(port.shape) == [-1] for port in inputs)):
        raise ValueError(f"declares an image, but the model takes {len(inputs)} inputs")
    rank = 2 if len(inputs) > 1 else len(inputs[0].shape)
    layout = declared.layout or {2: "flat", 3: "hw"}.get(rank, "chw")
    mode = "L" if layout in ("hw", "flat") else "RGB"
    name = inputs[0].name if len(inputs) == 1 else NAMES[0]
    datatype = "FP32" if inputs[0].datatype == "ANY" else inputs[0].datatype
    return _made(name, datatype, (-1, -1), mode, layout)


def _check(made: ImageInput, inputs: Sequence[Port]) -> None:
    """Raise ValueError if the input does not take what the declaration makes of a picture."""
    wanted = [-1, len(inputs)] if len(inputs) > 1 else list(inputs[0].shape)
    fits = not wanted or (
        len(wanted) == len(made.shape)
        and all(-1 in pair or pair[0] == pair[1] for pair in zip(wanted[1:], made.shape[1:]))
    )
    if made.layout == "flat" and not made.height:
        raise ValueError("declares an image whose pixels are a flat list, but no size; give `size: [height, width]`")
    if not fits:
        raise ValueError(f"declares images of the shape {made.shape}, but the model takes {wanted}")
    for key, values in (("mean", made.mean), ("std", made.std)):
        if len(values) not in (0, 1, made.channels):
            raise ValueError(f"gives {len(values)} numbers as `{key}` for {made.channels} channels")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)
