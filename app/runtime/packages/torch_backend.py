"""Chooses the build of PyTorch: for the processor alone, unless a GPU is asked for or the machine says otherwise.

PyPI has the build for CUDA under the plain name, with gigabytes of libraries. The others are on an index of PyTorch's
own, which uv asks for PyTorch and its kin alone: https://docs.astral.sh/uv/guides/integration/pytorch/.
"""

from __future__ import annotations

import re

from app.core.environment import Lock
from app.runtime.packages.index import machine_index

LOCAL_VERSION = re.compile(r"^torch==[^+\s]+\+(cpu|xpu|cu[0-9]+|rocm[0-9.]+)$", re.MULTILINE)


def resolve_arguments(gpu: bool) -> list[str]:
    """Return arguments for `uv pip` to resolve.

    With a GPU uv looks which CUDA this machine's driver takes; without a driver it takes the build for the CPU.
    """
    return _chosen("auto" if gpu else "cpu")


def install_arguments(lock: Lock) -> list[str]:
    """Return arguments for `uv pip` to install a lock, whose version of PyTorch tells its build."""
    match = LOCAL_VERSION.search("\n".join(lock.packages))
    return _chosen(match[1]) if match else []


def _chosen(backend: str) -> list[str]:
    """Return the arguments for a build; none if the machine's configuration says where packages come from.

    PyTorch's index would go past that.
    """
    return [] if machine_index().brings_torch else ["--torch-backend", backend]
