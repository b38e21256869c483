"""Sandbox that a runtime sets up around itself after it opened its sockets and before it loads untrusted files.

    layer           without root    what it restricts
    namespaces      mostly          network, other processes, the rest of the file system, shared memory
    Landlock        Linux 5.13      the file system again, TCP ports, signals to foreign processes
    seccomp         Linux 3.17      new network sockets, every connect, and rarely used system calls
    capabilities    always          root's powers, also for programs it starts
    limits          always          memory, processes, file size, open files
    control group   root, or given  memory of all kinds, processes and CPU of the whole replica

Each layer works without the others, since each is missing on some machine. A socket opened before the sandbox keeps
working, even a TCP socket: it belongs to the network namespace in which it was opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import time
from dataclasses import replace
from typing import Any, Optional

from model_container.contract.config import Confinement
from model_container.sandbox import landlock, namespaces, seccomp, supervisor, syscalls, usage

_SYSTEM = (
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share/zoneinfo",
    "/usr/local/lib",
    "/nix/store",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
)
_DEVICES = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom")
_ZEROS = "/dev/zero"  # a shared mapping of it is memory that only a control group counts
_SCRATCH = ("/tmp", "/dev/shm")  # new and empty if the root is the sandbox's own
# The entries allowed if /proc shows every process of the machine.
_OWN_PROC = (
    "self",
    "cpuinfo",
    "meminfo",
    "stat",
    "loadavg",
    "uptime",
    "filesystems",
    "version",
    "sys/vm",
    "sys/kernel",
)
_MOST_FILES = 4096
_BACKGROUND_SLICE_NS = 100_000


def confine(confinement: Confinement) -> dict[str, Any]:
    """Set up the sandbox. With namespaces, return in a new process whose parent is its supervisor.

    Must be called with one thread, no event loop and the sockets bound. Never raises: what the kernel does not grant is
    left out and named under "missing". Example of the report: {"namespaces": ["user", "network", …], "landlock_abi": 7,
    "seccomp": True, "limits": {"memory_mb": 2048, …}, "capabilities": "none", "missing": [], "bounds":
    {"memory": "cgroup v2", "pids": "cgroup v2", "cpu": "number of threads"}}.
    """
    report: dict[str, Any] = {
        "namespaces": [],
        "root": "shared",
        "landlock_abi": 0,
        "seccomp": False,
        "limits": {},
        "capabilities": "kept",
        "missing": [],
        "bounds": {},
    }
    if syscalls.LINUX:
        if confinement.namespaces:
            confinement = _separate(confinement, report)
        report["bounds"] = _bounds(confinement)
        _limit(confinement, report)
        _drop_capabilities(report)
        _lock_files(confinement, report)
        if confinement.seccomp:
            _filter_calls(confinement, report)
    else:
        _limit(confinement, report)
        system = f"{platform.system()} on {platform.machine()}"
        layers = ("namespaces", "Landlock", "seccomp", "capabilities")
        report["missing"] += [f"{layer}: not on {system}" for layer in layers]
    return report


def _missing(report: dict[str, Any], layer: str, error: Exception) -> None:
    report["missing"].append(f"{layer}: {getattr(error, 'strerror', None) or error}")


def _bounds(confinement: Confinement) -> dict[str, str]:
    """Return what limits the memory, the processes and the CPU share of the whole replica."""
    if confinement.cgroup == "engine":
        return dict.fromkeys(("memory", "pids", "cpu"), "the engine's cgroup")
    without = {
        "memory": "seccomp and supervisor" if confinement.seccomp else "supervisor",
        "pids": "supervisor",
        "cpu": "number of threads",
    }
    held = confinement.controllers if confinement.cgroup else ()
    return {name: f"cgroup {confinement.cgroup}" if name in held else limit for name, limit in without.items()}


def _separate(confinement: Confinement, report: dict[str, Any]) -> Confinement:
    """Enter the namespaces, fork from the supervisor and close the root.

    Returns the confinement that was achieved: without the control group if that could not be joined.
    """
    _wait_until_recorded(confinement.go)
    _offer_to_the_out_of_memory_killer()
    try:
        namespaces.enter()
        report["namespaces"] = list(namespaces.NAMES)
    except OSError as error:
        _missing(report, "namespaces", error)
    runtime = _watched(confinement, report)
    confinement = _in_its_group(confinement, report)
    if runtime is None:
        return confinement
    if confinement.background:
        _give_way()  # in the session created by the fork, and while /proc is still the machine's
    if report["namespaces"] and confinement.pids:
        # If it cannot be set, RLIMIT_NPROC and the supervisor limit the number.
        with contextlib.suppress(OSError, ValueError):
            namespaces.bound_pids(confinement.pids)
    if report["namespaces"] and confinement.readable is not None:
        scratch_mb = max(64, confinement.memory_mb // 4)
        try:
            namespaces.close_root(_allowed(confinement), confinement.writable, _devices(confinement), scratch_mb)
            report["root"] = "own"
        except OSError as error:
            _missing(report, "own root", error)
    runtime.report_confined(report["root"] == "own", bool(confinement.cgroup))
    return confinement


def _wait_until_recorded(go: int) -> None:
    """Wait until the replica is recorded. Exit if its starter ends before that, since nobody could find the replica."""
    if go >= 0:
        if not os.read(go, 1):
            os._exit(1)
        os.close(go)


def _watched(confinement: Confinement, report: dict[str, Any]) -> Optional[supervisor.Runtime]:
    """Fork the supervisor and return the runtime's side; None, without a fork, if that fails."""
    kept = supervisor.Kept(usage.Group(confinement.kills, confinement.peak), confinement.end)
    try:
        return supervisor.fork_supervised(supervisor.Bounds(confinement.memory_mb, confinement.pids), kept)
    except OSError as error:
        _missing(report, "supervisor", error)
        return None


def _in_its_group(confinement: Confinement, report: dict[str, Any]) -> Confinement:
    """Join the control group in every hierarchy. If that fails, the result has no control group."""
    try:
        for descriptor in confinement.join:
            os.write(descriptor, b"0")  # "0" means the writing process, whatever its pid is in any namespace
    except OSError as error:
        _missing(report, "cgroup", error)
        confinement = replace(confinement, cgroup="", controllers=[])
    finally:
        supervisor.close(*confinement.join)
    return confinement


def _give_way() -> None:
    """Run only when nobody else wants the CPU.

    Linux schedules sessions as groups of equal weight (autogroup), so a nice value alone counts only within its
    session. Without privileges, a group's nice value can be set ten times a second by all processes of the machine
    together.
    """
    with contextlib.suppress(OSError):
        syscalls.run_in_the_background(_BACKGROUND_SLICE_NS)
    for _ in range(5):
        try:
            with open("/proc/self/autogroup", "w") as group:
                group.write("19")
            return
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            return


def _offer_to_the_out_of_memory_killer() -> None:
    """Let the out-of-memory killer choose the model before the gateway and the user's programs."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def _interpreter() -> list[str]:
    """Return where this Python keeps its programs and libraries, without anything else below its prefix."""
    prefixes = {
        sys.base_prefix,
        sys.base_exec_prefix,
        os.path.dirname(os.path.dirname(os.path.realpath(sys.executable))),
    }
    return [os.path.join(prefix, part) for prefix in sorted(prefixes) for part in ("bin", "lib", "lib64")]


def _allowed(confinement: Confinement) -> list[str]:
    return [*(confinement.readable or ()), *_interpreter(), *_SYSTEM]


def _readable(confinement: Confinement, own_root: bool) -> list[str]:
    proc = ["/proc", "/etc/passwd", "/etc/group"] if own_root else [f"/proc/{name}" for name in _OWN_PROC]
    return [*_allowed(confinement), *_devices(confinement), *proc]


def _devices(confinement: Confinement) -> list[str]:
    return [*_DEVICES, _ZEROS] if confinement.cgroup else [*_DEVICES]


def _lock_files(confinement: Confinement, report: dict[str, Any]) -> None:
    own_root = report["root"] == "own"
    readable = None
    if confinement.readable is not None:
        readable = _readable(confinement, own_root)
    writable = [*confinement.writable, "/dev/null", *(_SCRATCH if own_root else ())]
    try:
        report["landlock_abi"] = landlock.restrict(readable, writable)
    except OSError as error:
        _missing(report, "Landlock", error)


def _limit(confinement: Confinement, report: dict[str, Any]) -> None:
    """Set resource limits.

    Memory is limited by RLIMIT_DATA, private writable memory. RLIMIT_AS would also count what libraries only reserve or
    map: OpenBLAS, thread stacks and allocator arenas reserve gigabytes of addresses that cost nothing.
    """
    wanted = {
        "core_mb": (resource.RLIMIT_CORE, 0),
        "open_files": (resource.RLIMIT_NOFILE, _MOST_FILES),
    }
    if confinement.memory_mb:
        wanted["memory_mb"] = (resource.RLIMIT_DATA, confinement.memory_mb << 20)
    if confinement.file_mb:
        wanted["file_mb"] = (resource.RLIMIT_FSIZE, confinement.file_mb << 20)
    # Otherwise the kernel counts all processes of the user, including those outside the sandbox.
    if confinement.pids and report["namespaces"] and syscalls.release() >= (5, 14):
        wanted["pids"] = (resource.RLIMIT_NPROC, confinement.pids)
    for name, (limit, value) in wanted.items():
        try:
            hard = resource.getrlimit(limit)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (value, value))
            report["limits"][name] = value >> 20 if name.endswith("_mb") else value
        except (OSError, ValueError) as error:
            _missing(report, f"limit {name}", error)


def _drop_capabilities(report: dict[str, Any]) -> None:
    """Drop all capabilities for good and set no_new_privs, so that no set-user-id program restores any."""
    try:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        _empty_bounding_set()
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        version_3 = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
        syscalls.syscall(syscalls.CAPSET, version_3, ctypes.create_string_buffer(24))
        report["capabilities"] = "none"
    except OSError as error:
        _missing(report, "capabilities", error)


def _empty_bounding_set() -> None:
    """Empty the bounding set.

    This requires CAP_SETPCAP; a process without it cannot regain anything under no_new_privs.
    """
    for capability in range(64):
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
        except OSError:
            return


def _filter_calls(confinement: Confinement, report: dict[str, Any]) -> None:
    try:
        seccomp.install(unseen_memory=bool(confinement.cgroup))
        report["seccomp"] = True
    except OSError as error:
        _missing(report, "seccomp", error)
