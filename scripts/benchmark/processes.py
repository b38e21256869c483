"""What processes use: CPU time and memory, whole trees of them."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")
MEBIBYTE = 1 << 20


def cpu_seconds(pid: int) -> float:
    """User and system time of this one process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and all its descendants."""
    return cpu_seconds(pid) + sum(cpu_seconds(child.pid) for child in psutil.Process(pid).children(recursive=True))


def resident_mib(pid: int) -> float:
    """RSS of this one process."""
    return psutil.Process(pid).memory_info().rss / MEBIBYTE


def private_bytes(pid: int) -> int:
    """USS: memory that would be free if this one process ended."""
    return int(psutil.Process(pid).memory_full_info().uss)


def while_sampling(pid: int, work: Callable[[], T], every_seconds: float = 0.25) -> tuple[T, float]:
    """Do the work; with its result, the highest RSS of the process meanwhile, in MiB."""
    done = threading.Event()
    highest = [resident_mib(pid)]

    def sample() -> None:
        while not done.wait(every_seconds):
            highest.append(resident_mib(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        return work(), max(highest)
    finally:
        done.set()
        sampler.join()


def machine() -> dict[str, str | int]:
    """What a number depends on: processor, cores, memory, Python, commit."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_mib": psutil.virtual_memory().total // MEBIBYTE,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit, with a + if the checkout differs from it."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()
