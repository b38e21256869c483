"""What the processes of a replica use together, as /proc and its control group tell its supervisor."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple, Optional, Sequence

_SCRATCH = ("/tmp", "/dev/shm")


class Group(NamedTuple):
    """Files of the replica's control group, held open; -1 for what there is not.

    kills: memory.events or memory.oom_control. peak: the most memory it used.
    """

    kills: int = -1
    peak: int = -1


class Usage(NamedTuple):
    memory_bytes: int
    processes: int


def everyone() -> list[int]:
    """All that /proc shows: where it is the replica's own, all processes of the replica."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants() -> list[int]:
    """All below the supervisor; as their reaper it also gets those whose parent has ended."""
    found: list[int] = []
    asked = [os.getpid()]
    while asked:
        below = _children(asked.pop())
        found += below
        asked += below
    return found


def _children(pid: int) -> list[int]:
    """Of all its threads. Empty if it has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found


def usage_of(pids: Sequence[int], has_own_root: bool) -> Usage:
    """Private memory of these processes, and what their /tmp and /dev/shm hold, mapped or not.

    Pages of a fork not yet written to count for each process. Shared memory outside of those two is refused where
    this is what bounds it (seccomp.py).
    """
    page = os.sysconf("SC_PAGE_SIZE")
    used = _scratch_bytes() if has_own_root else 0
    for pid in pids:
        # It may end meanwhile.
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = file.read().split()
            used += (int(resident) - int(shared)) * page
    return Usage(used, len(pids))


def _scratch_bytes() -> int:
    used = 0
    for folder in _SCRATCH:
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            used += (found.f_blocks - found.f_bfree) * found.f_frsize
    return used


def kills_in(group: Group) -> int:
    """How often the out-of-memory killer struck in the group; 0 if there is none, or it does not tell."""
    for line in _text(group.kills).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def peak_of(group: Group) -> Optional[int]:
    """In bytes; None if there is no group, or it does not tell."""
    text = _text(group.peak).strip()
    return int(text) if text.isdigit() else None


def _text(descriptor: int) -> str:
    if descriptor < 0:
        return ""
    with contextlib.suppress(OSError):
        return os.pread(descriptor, 4096, 0).decode()
    return ""


def kernel_kills() -> int:
    """How often the out-of-memory killer struck on this machine; 0 where that cannot be read."""
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
