"""On which execution providers onnxruntime computes, and which of those that were asked for it does not."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Sequence

import onnxruntime  # type: ignore[import-untyped]

from model_container.contract.config import RuntimeConfig

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def wanted_providers(config: RuntimeConfig) -> List[str]:
    """In order of preference; [] where nothing was said."""
    return config.execution_providers or ([CUDA, CPU] if config.gpu else [])


def chosen_providers(available: Sequence[str], wanted: Sequence[str] = ()) -> List[str]:
    """In order of preference; what the first cannot run falls to the next, and to the CPU in the end.

    Raises ValueError if there is none of those wanted.
    """
    chosen = [one for one in wanted or (CUDA, CPU) if one in available]
    if not chosen:
        raise ValueError(
            f"of the execution providers {', '.join(wanted)} there is none in onnxruntime {onnxruntime.__version__}, "
            f"which has {', '.join(available)}"
        )
    return chosen


def open_on(model: Any, options: Any, wanted: Sequence[str]) -> Any:
    """A session. Raises ValueError where nothing of what was wanted is there, or started."""
    providers = chosen_providers(onnxruntime.get_available_providers(), wanted)
    if CUDA in providers and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries lie among the packages, where no loader looks
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if CPU not in providers and session.get_providers() == [CPU]:
        raise ValueError(
            f"{' and '.join(providers)} did not start, the log says why; name {CPU} last to have the CPU stand in"
        )
    for name, reason in passed_over(session, wanted).items():
        print(f"prism: {name} is not used: {reason}", file=sys.stderr, flush=True)
    return session


def passed_over(session: Any, wanted: Sequence[str]) -> Dict[str, str]:
    """Of those wanted, else of those chosen, the ones that the session is without, and why."""
    started, available = session.get_providers(), onnxruntime.get_available_providers()
    wanted = wanted or chosen_providers(available)
    built = f"onnxruntime {onnxruntime.__version__} of this environment is built without it"
    return {
        one: "it did not start; the log says why" if one in available else built for one in wanted if one not in started
    }
