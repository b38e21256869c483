"""The `input` of model_config.yaml: how images become a model's input, as its owner says."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

MODES: Final = ("L", "RGB", "BGR", "RGBA")
LAYOUTS: Final = ("chw", "hwc", "hw", "flat")
SIDE_MAX: Final = 4096
FRACTION: Final = re.compile(r"([+-]?\d+(?:\.\d*)?(?:e[+-]?\d{1,2})?)(?:\s*/\s*(\d+(?:\.\d*)?))?", re.IGNORECASE)


class ImageSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="image"):
    """How images become the input. What is left out follows from the signature; docs/image-inputs.md explains each key.

    size: of both sides, or [height, width]. scale: factor of the pixels, which go from 0 to 255: a number, or a
    fraction such as "1/255". mean, std: of all channels, or of each.
    """

    size: int | tuple[int, ...] = ()
    mode: str = ""
    layout: str = ""
    scale: float | str | None = None
    mean: float | tuple[float, ...] = ()
    std: float | tuple[float, ...] = ()

    @property
    def sides(self) -> list[int]:
        """The height and the width; [] where the signature decides."""
        return [self.size] * 2 if isinstance(self.size, int) else [*self.size]

    @property
    def fraction(self) -> list[float]:
        """The factor and the divisor of the scale; [] where the signature decides, or the scale is not valid."""
        return fraction_of(self.scale)

    @property
    def fault(self) -> tuple[str, object, str] | None:
        """The key, the value and the hint of what is wrong; None if nothing is."""
        words = (
            ("mode", self.mode, ("", *MODES)),
            ("layout", self.layout, ("", *LAYOUTS)),
        )
        for key, word, known in words:
            if word not in known:
                return key, word, f"It is {' or '.join(filter(None, known))}."
        if len(self.sides) not in (0, 2) or not all(1 <= side <= SIDE_MAX for side in self.sides):
            return "size", self.size, f"Give one side of a square or [height, width], each from 1 to {SIDE_MAX}."
        if self.scale is not None and not self.fraction:
            return "scale", self.scale, 'Give a number or a fraction, such as "1/255" for values from 0 to 1.'
        for key, numbers in (("mean", self.mean), ("std", self.std)):
            if len(listed(numbers)) > 4 or (key == "std" and 0 in listed(numbers)):
                return key, numbers, "Give one number, or one for each channel; `std` divides, so it is not 0."
        return None


def fraction_of(scale: float | str | None) -> list[float]:
    """Return the factor and the divisor of a number or a fraction such as "1/255"; [] for anything else, and for 0."""
    match = None if scale is None else FRACTION.fullmatch(str(scale).strip())
    parts = [] if match is None else [float(match[1]), float(match[2] or 1)]
    return parts if all(parts) else []


def listed(numbers: float | tuple[float, ...]) -> list[float]:
    return [*numbers] if isinstance(numbers, tuple) else [numbers]
