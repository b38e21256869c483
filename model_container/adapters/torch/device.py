"""Device that PyTorch computes on: the GPU if PyTorch finds one, otherwise the CPU."""

from __future__ import annotations

import sys
from typing import Any, Dict

import torch  # type: ignore[import-not-found]

from model_container.contract.config import RuntimeConfig


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def moved(program: Any) -> Any:
    """Move an exported program to the device, including tensors that its own code creates, which `to` does not move."""
    if device() == "cpu":
        return program
    from torch.export.passes import move_to_device_pass  # type: ignore[import-not-found]

    return move_to_device_pass(program, device())


def execution_of(config: RuntimeConfig, joinable: bool) -> Dict[str, Any]:
    """Return the device, and why no GPU is used if one was requested."""
    facts: Dict[str, Any] = {"device": device(), "threads": torch.get_num_threads(), "joins_requests": joinable}
    if device() == "cuda":
        return {**facts, "gpu": torch.cuda.get_device_name(0)}
    if not config.gpu:
        return facts
    built = f"PyTorch {torch.__version__} of this environment is built without it"
    reason = "PyTorch finds no GPU here" if torch.version.cuda else built
    print(f"prism: cuda is not used: {reason}", file=sys.stderr, flush=True)
    return {**facts, "passed_over": {"cuda": reason}}
