"""Named, typed inputs and outputs of a model, in the words of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Tensor(Struct, frozen=True):
    """One input or output. shape: −1 is a variable dimension, the first is the rows. datatype: FP64, INT64, BYTES…

    choices: the values a categorical column was trained on, where the artifact says so. optional: it may be left out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    choices: tuple[Any, ...] = ()
    optional: bool = False


class Signature(Struct, frozen=True):
    """The inputs and outputs of a model.

    kind "table": inputs are columns of one matrix or DataFrame. kind "tensors": each input stands alone.
    named: whether columns were named at training (then requests are checked by name).
    methods: which of predict, predict_proba the model offers. classes: labels, where it is a classifier.
    """

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    named: bool = False
    methods: tuple[str, ...] = ("predict",)
    classes: tuple[Any, ...] = ()
