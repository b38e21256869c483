"""The `input` of model_config.yaml where it is sound: how WAV files become a model's input, as its owner says."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from app.core.image import fraction_of

CHANNELS: Final = ("mono", "keep")
RATE_MIN: Final = 1_000
RATE_MAX: Final = 192_000


class AudioSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="audio"):
    """How sounds become the input; docs/audio-inputs.md explains each key.

    rate: in Hz, 0 for the file's own. channels: of CHANNELS, "" where the signature decides. scale: factor of the samples,
    which go from −1 to 1: a number, or a fraction such as "1/2".
    """

    rate: int = 0
    channels: str = ""
    scale: float | str | None = None

    @property
    def fraction(self) -> list[float]:
        """The factor and the divisor of the scale; [] where the signature decides, or the scale is not valid."""
        return fraction_of(self.scale)

    @property
    def fault(self) -> tuple[str, object, str] | None:
        """The key, the value and the hint of what is wrong; None if nothing is."""
        if self.rate and not RATE_MIN <= self.rate <= RATE_MAX:
            return (
                "rate",
                self.rate,
                f"Give the rate of the training in Hz, from {RATE_MIN} to {RATE_MAX}, such as 16000.",
            )
        if self.channels not in ("", *CHANNELS):
            return "channels", self.channels, f"It is {' or '.join(CHANNELS)}."
        if self.scale is not None and not self.fraction:
            return "scale", self.scale, "Give a number, such as 32768 for values of 16 bits, or a fraction."
        return None
