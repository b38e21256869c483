"""Linux system calls that the standard library does not offer, called through ctypes.

Numbers and constants: linux/include/uapi; they are ABI and never change.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Any

MACHINE = platform.machine()
LINUX = sys.platform == "linux" and MACHINE in ("x86_64", "aarch64")
"""Whether a sandbox is possible at all; on other systems only resource limits apply."""

# Per architecture; numbers from 424 on are the same everywhere.
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(MACHINE, -1)
CAPSET = {"x86_64": 126, "aarch64": 91}.get(MACHINE, -1)
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(MACHINE, -1)
SECCOMP = {"x86_64": 317, "aarch64": 277}.get(MACHINE, -1)
MOUNT_SETATTR = 442
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 38, 47, 4


def release() -> tuple[int, int]:
    """Return the version of the running kernel, e.g. (6, 14)."""
    major, minor, *_ = platform.release().split("-")[0].split(".")
    return int(major), int(minor)


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def syscall(number: int, *arguments: Any) -> int:
    """Make a system call. Integers are passed as longs. Raises OSError."""
    longs = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *longs), f"system call {number}")


def prctl(option: int, *arguments: Any) -> int:
    """Call prctl(2). Missing arguments are 0, as the newer options require. Raises OSError."""
    longs = [
        ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in (*arguments, 0, 0, 0, 0)[:4]
    ]
    return _checked(_libc.prctl(ctypes.c_int(option), *longs), f"prctl {option}")


def run_in_the_background(slice_ns: int) -> None:
    """Give the calling thread the batch policy and the lowest weight. Raises OSError.

    slice_ns: how long the thread may keep the CPU when another thread wakes up, if the kernel supports it (Linux 6.12;
    100 µs to 100 ms). Source: linux/include/uapi/linux/sched/types.h, struct sched_attr.
    """
    batch, lowest, size = 3, 19, 48
    attributes = struct.pack("=IIQiIQQQ", size, batch, 0, lowest, 0, slice_ns, 0, 0)
    this_thread = 0
    syscall(SCHED_SETATTR, this_thread, ctypes.create_string_buffer(attributes), 0)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Call mount(2). Raises OSError naming the target."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(result, f"mount on {target}")


def detach(target: str) -> None:
    """Unmount lazily: open files stay usable, the path is gone."""
    _checked(_libc.umount2(os.fsencode(target), 2), f"unmount {target}")
