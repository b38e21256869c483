"""Execution providers of onnxruntime: which ones are used, and which of the requested ones are not."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Sequence

import onnxruntime  # type: ignore[import-untyped]

from model_container.contract.config import RuntimeConfig

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def wanted_providers(config: RuntimeConfig) -> List[str]:
    """Return the requested providers in order of preference; [] if none were requested."""
    return config.execution_providers or ([CUDA, CPU] if config.gpu else [])


def chosen_providers(available: Sequence[str], wanted: Sequence[str] = ()) -> List[str]:
    """Return the available providers in order of preference.

    What the first cannot run falls to the next, and finally to the CPU. Raises ValueError if none of those wanted is
    available.
    """
    chosen = [provider for provider in wanted or (CUDA, CPU) if provider in available]
    if not chosen:
        raise ValueError(
            f"none of the execution providers {', '.join(wanted)} is in onnxruntime {onnxruntime.__version__}, "
            f"which has {', '.join(available)}"
        )
    return chosen


def open_on(model: Any, options: Any, wanted: Sequence[str]) -> Any:
    """Open a session. Raises ValueError if none of the wanted providers is available or starts."""
    providers = chosen_providers(onnxruntime.get_available_providers(), wanted)
    if CUDA in providers and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries are among the packages, where the dynamic loader does not look
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if CPU not in providers and session.get_providers() == [CPU]:
        raise ValueError(
            f"{' and '.join(providers)} did not start, the log says why; name {CPU} last to fall back to the CPU"
        )
    for name, reason in passed_over(session, wanted).items():
        print(f"prism: {name} is not used: {reason}", file=sys.stderr, flush=True)
    return session


def passed_over(session: Any, wanted: Sequence[str]) -> Dict[str, str]:
    """Return the wanted providers, or else the default ones, that the session does not use, and why."""
    started, available = session.get_providers(), onnxruntime.get_available_providers()
    wanted = wanted or chosen_providers(available)
    built = f"onnxruntime {onnxruntime.__version__} of this environment is built without it"
    return {
        provider: "it did not start; the log says why" if provider in available else built
        for provider in wanted
        if provider not in started
    }
