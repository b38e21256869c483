"""Asks the Docker engine for GPUs, and tells from its words whether it has none and which it offers."""

from __future__ import annotations

import re
from typing import Any

from app.core.execution import Gpus
from app.errors import StartFailed

NO_GPU = re.compile(
    r"could not select device driver"  # no NVIDIA container toolkit
    r"|CDI device|GPU vendor|unresolvable|nvidia\.com/gpu"  # engines that find devices by their CDI files
    r"|nvidia-container|nvml|libnvidia-ml|libcuda|unknown device",  # the toolkit is there, a driver or that GPU is not
    re.IGNORECASE,
)
"""Words of engines of different ages that start a container with a device request which they cannot fill."""

FIX = (
    "Where the engine runs, install the NVIDIA driver and the NVIDIA Container Toolkit, run "
    "`nvidia-ctk runtime configure --runtime=docker` and restart Docker; or leave `gpu` out."
)


def device_requests(wanted: Gpus) -> list[dict[str, Any]]:
    """Return the requests as docker-py's `DeviceRequest` and `docker run --gpus` have them; [] for no GPU."""
    if not wanted:
        return []
    which: dict[str, Any] = {"device_ids": list(wanted.ids)} if wanted.ids else {"count": wanted.count}
    return [{**which, "capabilities": [["gpu"]]}]


def refusal(ref: str, words: str) -> StartFailed | None:
    """Return the error for a container that could not start for want of GPUs; None if that was not the reason."""
    if not NO_GPU.search(words):
        return None
    return StartFailed(f"The Docker engine has no GPU for `{ref}`: {words}", hint=FIX)


def offered(info: dict[str, Any]) -> str:
    """Return how the engine offers GPUs, "" where it shows no sign of one. info: its answer to `docker info`."""
    devices = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or () if isinstance(device, dict)]
    gpus = [device for device in devices if "gpu" in device]
    if gpus:
        return f"CDI devices {', '.join(gpus)}"
    runtimes = [name for name in info.get("Runtimes") or {} if "nvidia" in name]
    return f"the runtime {runtimes[0]}" if runtimes else ""
