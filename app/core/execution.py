"""Describes what a model computes on: GPUs, execution providers of onnxruntime, threads."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from msgspec import Struct

ALL_GPUS: Final = -1
"""The count that stands for as many GPUs as the engine has."""

TEXTS: Final = {
    "": 0,
    "false": 0,
    "no": 0,
    "off": 0,
    "true": ALL_GPUS,
    "yes": ALL_GPUS,
    "on": ALL_GPUS,
    "all": ALL_GPUS,
}
IDS_PREFIX: Final = "device="
ID: Final = re.compile(r"[A-Za-z0-9:./=_-]{1,100}")
GPU_FORMS: Final = "Give true for all GPUs, a number such as 2, or a list of ids as nvidia-smi shows them."

PROVIDERS: Final = (
    *("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"),
    *("ROCMExecutionProvider", "MIGraphXExecutionProvider", "OpenVINOExecutionProvider", "DnnlExecutionProvider"),
    *("VitisAIExecutionProvider", "QNNExecutionProvider", "CoreMLExecutionProvider", "ACLExecutionProvider"),
    *("ArmNNExecutionProvider", "DmlExecutionProvider", "RknpuExecutionProvider", "WebGpuExecutionProvider"),
    *("XnnpackExecutionProvider", "CANNExecutionProvider", "AzureExecutionProvider"),
)
"""The execution providers as builds of onnxruntime name them: https://onnxruntime.ai/docs/execution-providers/."""


class Gpus(Struct, frozen=True):
    """The GPUs that a replica gets. count: how many, or EVERY. ids: which, in place of a count."""

    count: int = 0
    ids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.count or self.ids)

    @property
    def shown(self) -> bool | int | tuple[str, ...]:
        """The value that the model's owner would write for it."""
        return self.ids or (self.count if self.count > 0 else self.count == ALL_GPUS)


class Execution(Struct, frozen=True):
    """The GPUs, execution providers and threads that a model's owner asks for.

    providers: in order of preference, () for the usual ones. threads: None for the usual number.
    """

    gpus: Gpus = Gpus()
    providers: tuple[str, ...] = ()
    threads: int | None = None


def parse_gpus(value: Any) -> Gpus | None:
    """Read `true`, `2` or `["0", "1"]`, or the text of a form, which writes ids as `device=0,1`.

    Returns None for anything else.
    """
    if isinstance(value, str):
        value = _of_text(value)
    if isinstance(value, bool):
        return Gpus(ALL_GPUS if value else 0)
    if isinstance(value, int):
        return Gpus(value) if 0 <= value <= 64 or value == ALL_GPUS else None
    if not isinstance(value, (list, tuple)) or not value:
        return None
    ids = tuple(str(item) for item in value)
    return Gpus(ids=ids) if all(map(ID.fullmatch, ids)) and len(set(ids)) == len(ids) else None


def _of_text(text: str) -> Any:
    text = text.strip()
    if text.lower() in TEXTS:
        return TEXTS[text.lower()]
    if text.startswith(IDS_PREFIX):
        return [item.strip() for item in text.removeprefix(IDS_PREFIX).split(",")]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def unknown_provider(names: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the first name that onnxruntime does not know, and what to do about it; None if it knows all."""
    for name in names:
        if name in PROVIDERS:
            continue
        full_name = name if len(name) > len("ExecutionProvider") else f"{name}ExecutionProvider"
        known = {provider.lower(): provider for provider in PROVIDERS}
        near = difflib.get_close_matches(full_name.lower(), known, 1, 0.8)
        return name, f"Did you mean {known[near[0]]}?" if near else f"They are: {', '.join(PROVIDERS)}."
    return None
