"""Which artifacts, as far as their file says, take images: their environment gets Pillow, which decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from app.core.inspection import Pin
from model_container.contract.image_input import Port, image_input

if TYPE_CHECKING:
    from app.artifact.formats.onnx import OnnxReading
    from app.artifact.pickles import PickleReading

PILLOW: Final = "pillow"
OF_TORCH: Final = Pin(PILLOW, "", "PyTorch's files seldom say whether a model takes images, which Pillow decodes")


def image_pins_of_onnx(reading: OnnxReading) -> tuple[Pin, ...]:
    return _pins([Port(name, datatype, shape) for name, datatype, shape in reading.ports])


def image_pins_of_pickle(reading: PickleReading) -> tuple[Pin, ...]:
    """Return Pillow's pin if some number of columns is that of a square image, and no column's name speaks against it."""
    names = reading.feature_names
    for width in reading.widths:
        ports = [Port(name, "FP64", (-1,)) for name in names] if names else [Port("X", "FP64", (-1, width))]
        if (not names or len(names) == width) and (pins := _pins(ports)):
            return pins
    return ()


def _pins(ports: Sequence[Port]) -> tuple[Pin, ...]:
    taken = image_input(ports)
    if taken is None:
        return ()
    shape = " × ".join("n" if size < 0 else str(size) for size in taken.shape[1:])
    return (Pin(PILLOW, "", f"its input of {shape} values may be an image, which Pillow decodes"),)
