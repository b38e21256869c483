"""Resource usage of a replica's processes together, read from /proc and the control group by the supervisor."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple, Optional, Sequence

_SCRATCH = ("/tmp", "/dev/shm")


class Group(NamedTuple):
    """Files of the replica's control group, held open; -1 for a file that does not exist.

    kills: memory.events or memory.oom_control. peak: the replica's peak memory.
    """

    kills: int = -1
    peak: int = -1


class Usage(NamedTuple):
    memory_bytes: int
    processes: int


def everyone() -> list[int]:
    """Return all processes that /proc shows: if it is the replica's own /proc, all processes of the replica."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants() -> list[int]:
    """Return all processes below the supervisor, including orphans, which are reparented to it."""
    pids: list[int] = []
    queue = [os.getpid()]
    while queue:
        below = _children(queue.pop())
        pids += below
        queue += below
    return pids


def _children(pid: int) -> list[int]:
    """Return the children of all threads of a process. Empty if it has ended."""
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                pids += [int(child) for child in file.read().split()]
    return pids


def usage_of(pids: Sequence[int], has_own_root: bool) -> Usage:
    """Measure the private memory of these processes, and the contents of their /tmp and /dev/shm, mapped or not.

    Pages of a fork that were not written to yet count for each process. Where this measurement limits the memory, other
    shared memory is refused (seccomp.py).
    """
    page = os.sysconf("SC_PAGE_SIZE")
    used = _scratch_bytes() if has_own_root else 0
    for pid in pids:
        # The process may end meanwhile.
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = file.read().split()
            used += (int(resident) - int(shared)) * page
    return Usage(used, len(pids))


def _scratch_bytes() -> int:
    used = 0
    for folder in _SCRATCH:
        with contextlib.suppress(OSError):
            status = os.statvfs(folder)
            used += (status.f_blocks - status.f_bfree) * status.f_frsize
    return used


def kills_in(group: Group) -> int:
    """Return how often the out-of-memory killer struck in the group; 0 if there is no group or no such count."""
    for line in _text(group.kills).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def peak_of(group: Group) -> Optional[int]:
    """Return the peak memory in bytes; None if there is no group or no such value."""
    text = _text(group.peak).strip()
    return int(text) if text.isdigit() else None


def _text(descriptor: int) -> str:
    if descriptor < 0:
        return ""
    with contextlib.suppress(OSError):
        return os.pread(descriptor, 4096, 0).decode()
    return ""


def kernel_kills() -> int:
    """Return how often the out-of-memory killer struck on this machine; 0 if that cannot be read."""
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
