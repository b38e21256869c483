"""Chooses the build of PyTorch: for the processor alone, unless a GPU is asked for or the machine says otherwise.

PyPI has the build for CUDA under the plain name, with gigabytes of libraries. The others are on an index of PyTorch's
own, which uv asks for PyTorch and its kin alone: https://docs.astral.sh/uv/guides/integration/pytorch/. Where this
machine names sources of packages, their build for the processor is looked for; it has a version such as 2.13.0+cpu.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from app.core.environment import Lock
from app.errors import EnvironmentFailed
from app.runtime.packages.index import machine_index
from app.runtime.target import Log

LOCAL_VERSION = re.compile(r"^torch==[^+\s]+\+(cpu|xpu|cu[0-9]+|rocm[0-9.]+)$", re.MULTILINE)
TORCH = re.compile(r"^torch==(\S+)", re.MULTILINE)
PLAIN_LIBRARY = re.compile(r"^(torchvision|torchaudio)==[^+\s]+$", re.MULTILINE)
"""A library that is compiled against one build of PyTorch, in a version that does not say for which."""
FOR_GPU = re.compile(r"\+(?:xpu|cu[0-9]+|rocm[0-9.]+)$")
LIBRARY = re.compile(r"^((?:nvidia|cuda)-[a-z0-9-]+)==", re.MULTILINE)
NCCL = "nvidia-nccl-"
"""XGBoost needs this library of NVIDIA's, too."""

ASKS_FOR_GPU = re.compile(r"^(?:nvidia|cuda)-|^torch\b.*\+(?:xpu|cu[0-9]|rocm)")
ROUNDS = 4
"""How often uv is asked again: builds for another version of CUDA need libraries with other names."""

FROM_PYTORCH = "# PyTorch is from its own index.\n"
ONLY_FOR_GPU = (
    "Add the build for the processor to your index or folder, or set UV_TORCH_BACKEND=cpu to take it from "
    "PyTorch's own index; `--gpu`, or UV_TORCH_BACKEND= (to nothing), takes the build for a GPU."
)
Ask = Callable[[tuple[str, ...], tuple[str, ...]], Awaitable[str]]
"""A function that has uv resolve, with further arguments and under constraints, and returns the lock's text."""


def resolve_arguments(gpu: bool) -> tuple[str, ...]:
    """Return arguments for `uv pip` to resolve.

    With a GPU uv looks which CUDA this machine's driver takes; without a driver it takes the build for the CPU. There
    are none if the machine's configuration says where packages come from: PyTorch's index would go past that.
    """
    return () if machine_index().brings_torch else ("--torch-backend", "auto" if gpu else "cpu")


def install_arguments(lock: Lock) -> tuple[str, ...]:
    """Return arguments for `uv pip` to install a lock, whose version of PyTorch tells its build."""
    match = LOCAL_VERSION.search(lock.text)
    if match is None or (machine_index().brings_torch and FROM_PYTORCH not in lock.text):
        return ()
    return "--torch-backend", match[1]


async def without_gpu(text: str, packages: Iterable[str], ask: Ask) -> str:
    """Return a lock whose PyTorch computes on the processor alone: `text`, or another if that has the build for a GPU.

    packages: the requirements; one that names a build for a GPU has its way, as has UV_TORCH_BACKEND. First come the
    sources that the machine names. Only if those add to the usual index, PyTorch's own is asked, too.
    Raises EnvironmentFailed where no such build is found.
    """
    index = machine_index()
    if index.chooses_torch or not needs_gpu(text) or any(map(ASKS_FOR_GPU.search, packages)):
        return text
    here = await _from_configured_sources(text, ask)
    if here:
        return here
    if index.replaces_usual:
        raise EnvironmentFailed(
            f"the configured package source has PyTorch {_version(text)} for GPUs alone, with gigabytes of libraries",
            hint=ONLY_FOR_GPU,
        )
    return FROM_PYTORCH + await ask(("--torch-backend", "cpu"), ())


async def _from_configured_sources(text: str, ask: Ask) -> str:
    """Return a lock with a build for the processor, made without what builds for a GPU need; "" if there is none."""
    constraints: set[str] = set()
    for _ in range(ROUNDS):
        constraints |= {f"{name}<0" for name in gpu_libraries(text)}
        if FOR_GPU.search(_version(text)):
            constraints.add(f"torch!={_version(text)}")
        try:
            text = await ask((), tuple(sorted(constraints)))
        except EnvironmentFailed:
            return ""
        if not needs_gpu(text):
            return text if _version(text).endswith("+cpu") else ""  # old builds contain the libraries
    return ""


async def with_libraries_for_processor(text: str, ask: Ask, log: Log) -> str:
    """Return a lock whose torchvision and torchaudio are built for the processor if its PyTorch is: `text`, or another.

    PyPI has their builds for a GPU under the plain version, and beside another build of PyTorch these do not load. A
    configured source that has the others is preferred already, as 0.28.0+cpu is newer than 0.28.0; where none has,
    PyTorch's own index is asked, if the sources only add to the usual one. If nobody has them, `text` is returned and
    the log says so.
    """
    index = machine_index()
    plain = PLAIN_LIBRARY.findall(text)
    if index.chooses_torch or not plain or not _version(text).endswith("+cpu"):
        return text
    if not index.replaces_usual:
        with suppress(EnvironmentFailed):
            found = await ask(("--torch-backend", "cpu"), ())
            if not PLAIN_LIBRARY.search(found):
                return FROM_PYTORCH + found
    names = " and ".join(plain)
    log(f"no build of {names} for the processor was found: that of the usual index may not load beside this PyTorch")
    return text


def needs_gpu(text: str) -> bool:
    """Return whether a lock has a build of PyTorch for a GPU."""
    version = _version(text)
    return bool(version) and not version.endswith("+cpu") and bool(FOR_GPU.search(version) or gpu_libraries(text))


def gpu_libraries(text: str) -> list[str]:
    """Return the names of NVIDIA's libraries in a lock, but for one that XGBoost needs."""
    names = LIBRARY.findall(text)
    of_xgboost = "\nxgboost==" in f"\n{text}"
    return [name for name in names if not (of_xgboost and name.startswith(NCCL))]


def _version(text: str) -> str:
    match = TORCH.search(text)
    return match[1] if match else ""
