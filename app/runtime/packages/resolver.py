"""Turns what a model needs into a lock: every package at one exact version, for a Python that has wheels of all."""

from __future__ import annotations

import platform as machine
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from app.core.environment import Lock, Requirements
from app.errors import EnvironmentFailed
from app.runtime.packages import torch_backend
from app.runtime.packages.uv import UNREACHABLE, run_uv
from app.runtime.target import Log

FOR_EVERY_PYTHON = (*UNREACHABLE, torch_backend.ONLY_FOR_GPU)
"""Next steps after failures that would be the same with another Python."""


async def resolve(requirements: Requirements, *, log: Log, timeout_seconds: float, platform: str | None = None) -> Lock:
    """Return the lock for the first acceptable Python for which every package has a wheel.

    Wheels only: building a source distribution would run its author's code outside any sandbox.
    Raises EnvironmentFailed with the reason for the Python that was preferred.

    platform: "linux" for a container on this machine's engine; else in uv's words; None for this machine.
    """
    passed_over: dict[str, EnvironmentFailed] = {}
    for python in requirements.pythons:
        try:
            text = await _compile(requirements, python, log, timeout_seconds, platform)
        except EnvironmentFailed as failure:
            log(f"Python {python} is skipped")
            passed_over[python] = failure
            if failure.hint in FOR_EVERY_PYTHON:
                break
            continue
        text = text if requirements.gpu else without_nccl(text)
        evidence = "; ".join([requirements.python_evidence, *map(_why_not, passed_over.items())])
        return Lock(python, text, requirements.pins, evidence)
    raise _refusal(requirements, passed_over)


async def _compile(
    requirements: Requirements, python: str, log: Log, timeout_seconds: float, platform: str | None
) -> str:
    arguments = ["pip", "compile", "--python-version", python, "--no-header", "--no-annotate", "--quiet"]
    arguments += ["--only-binary", ":all:"]
    if platform is not None:
        arguments += ["--python-platform", uv_platform(platform, machine.machine())]

    async def ask(more: tuple[str, ...], constraints: tuple[str, ...] = ()) -> str:
        with TemporaryDirectory(prefix="prism-") as folder:
            if constraints:
                (Path(folder) / "constraints.txt").write_text("\n".join(constraints))
                more = (*more, "--constraints", f"{folder}/constraints.txt")
            return await run_uv(
                [*arguments, *more, "-"],
                log=log,
                timeout_seconds=timeout_seconds,
                error=EnvironmentFailed,
                stdin="\n".join(requirements.packages),
            )

    text = await ask(torch_backend.resolve_arguments(requirements.gpu))
    if requirements.gpu:
        return text
    text = await torch_backend.without_gpu(text, requirements.packages, ask)
    return await torch_backend.with_libraries_for_processor(text, ask, log)


def uv_platform(platform: str, architecture: str) -> str:
    """Return the platform in uv's words.

    uv takes "linux" for x86_64 everywhere; a container has the processor of its machine, also on macOS.
    """
    if platform != "linux":
        return platform
    processor = {"arm64": "aarch64", "amd64": "x86_64"}.get(architecture.lower(), architecture.lower())
    return f"{processor}-unknown-linux-gnu"


def without_nccl(lock: str) -> str:
    """Leave NVIDIA's NCCL out of a lock with XGBoost, which opens these 350 MB only to train on several GPUs.

    It stays where the lock has more of NVIDIA's, whose libraries would need it (PyTorch's build for CUDA does).
    """
    lines = lock.splitlines(keepends=True)
    of_nvidia = [line for line in lines if line.startswith("nvidia-")]
    alone = len(of_nvidia) == 1 and of_nvidia[0].startswith("nvidia-nccl-")
    if not alone or not any(line.startswith("xgboost==") for line in lines):
        return lock
    return "".join(line for line in lines if line not in of_nvidia)


def _why_not(passed_over: tuple[str, EnvironmentFailed]) -> str:
    python, failure = passed_over
    return f"not {python}: {reason_of(failure)}"


def reason_of(failure: EnvironmentFailed) -> str:
    """Return uv's reason in one clause, without the words around it."""
    reason = re.sub(r"^`uv [^`]*` failed: ", "", failure.detail)
    reason = re.sub(r"^No solution found when resolving dependencies\W*(cause:)?\s*(Because )?", "", reason)
    return re.split(r",? (?:we can conclude|and you require)\b", reason, maxsplit=1)[0].rstrip(".,; ")


def _refusal(requirements: Requirements, passed_over: dict[str, EnvironmentFailed]) -> EnvironmentFailed:
    """Make the error, with the reason for the preferred Python: those that came after it were only a way out."""
    preferred = next(iter(passed_over.values()))
    what = f"No set of packages satisfies the model with Python {' or '.join(passed_over)}"
    if preferred.hint in UNREACHABLE:
        what = "The model's packages could not be looked up"
    return EnvironmentFailed(
        f"{what}: {reason_of(preferred)}.",
        hint=preferred.hint,
        requirements=list(requirements.packages),
    )
