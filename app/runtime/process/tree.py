"""Finds and signals a replica's processes, as the operating system sees them. Everything blocks for milliseconds."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from app.runtime.target import ReplicaState


def identity(pid: int) -> str:
    """Return "<pid>:<start time>", which no later process shares. Raises psutil.NoSuchProcess.

    On Linux the time is in ticks since the boot: unlike a time of day, it does not move when the clock is set.
    """
    if sys.platform != "linux":
        return f"{pid}:{psutil.Process(pid).create_time():.2f}"
    try:
        after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    return f"{pid}:{after_the_name.split()[19]}"


def find(identifier: str) -> psutil.Process | None:
    """Return the living process of that identity; None if it is gone, or only waits to be reaped."""
    pid = int(identifier.partition(":")[0])
    try:
        process = psutil.Process(pid)
        if identity(pid) != identifier or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    return process


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all its descendants, itself first."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def observe(process: psutil.Process) -> ReplicaState:
    frozen, rss_bytes, cpu_seconds = False, 0, 0.0
    for member in tree(process):
        with contextlib.suppress(psutil.Error):
            frozen = frozen or member.status() == psutil.STATUS_STOPPED
            rss_bytes += member.memory_info().rss
            times = member.cpu_times()
            cpu_seconds += times.user + times.system
    detail = "stopped by a signal (SIGSTOP)" if frozen else "running"
    return ReplicaState(running=True, frozen=frozen, detail=detail, rss_bytes=rss_bytes, cpu_seconds=cpu_seconds)


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each process that still lives. psutil makes sure that a reused pid is not hit."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive
