"""Namespaces: a network without a way out, a process table of its own, and a root that holds only the allowed paths.

Root is not needed if the kernel lets users create user namespaces. The root is closed as in bubblewrap: an empty tmpfs,
the allowed paths bound into it, pivot_root, and the old root unmounted.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Iterable, Sequence

from model_container.sandbox import syscalls

NAMES = ("user", "network", "mount", "pid", "ipc", "uts")
_NEW_USER, _NEW_NET, _NEW_MOUNT = 0x10000000, 0x40000000, 0x00020000
_NEW_PID, _NEW_IPC, _NEW_UTS = 0x20000000, 0x08000000, 0x04000000

_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18

_ROOT = "/tmp"  # where the new root is built; all its sources are opened before it is covered
_NOBODY = 65534
_MADE_NEW = ("/", "/tmp", "/dev", "/dev/shm", "/proc")
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}


def enter() -> None:
    """Move into new namespaces; only later children join the pid namespace. Raises OSError, with nothing changed.

    The user keeps its rights on files, but root is `nobody` inside.
    """
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(_NEW_USER | _NEW_NET | _NEW_MOUNT | _NEW_PID | _NEW_IPC | _NEW_UTS)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid or _NOBODY} {uid} 1")
    _write("/proc/self/gid_map", f"{gid or _NOBODY} {gid} 1")


def bound_pids(most: int) -> None:
    """Limit the processes and threads of this pid namespace, since RLIMIT_NPROC does not limit the host's root.

    Does nothing before Linux 6.14, where the same file limits the whole machine. The kernel accepts no value below 301.
    Raises OSError.
    """
    if syscalls.release() < (6, 14):
        return
    with open("/proc/sys/kernel/pid_max", "r+") as limit:
        machine_wide = int(limit.read())
        if most < machine_wide:
            limit.seek(0)
            limit.write(str(max(most, 301)))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def close_root(readable: Sequence[str], writable: Sequence[str], devices: Sequence[str], scratch_mb: int) -> None:
    """Leave nothing of the file system but these paths, read-only and writable; /tmp and /dev/shm are new and empty.

    scratch_mb: size of each of these two, in MiB. Must be called by the first process of a new pid namespace, since it
    mounts its /proc. Raises OSError; the root is then as before.
    """
    working = os.getcwd()
    syscalls.mount(None, "/", None, _RECURSIVE | _PRIVATE)
    sources = _held((*readable, *devices), writable)
    try:
        syscalls.mount("tmpfs", _ROOT, "tmpfs", _NO_SUID | _NO_DEV, "mode=755,size=1m")
        try:
            for path in ("/tmp", "/dev/shm"):
                os.makedirs(_ROOT + path)
                options = f"mode=1777,size={scratch_mb}m,nr_inodes=65536"
                syscalls.mount("tmpfs", _ROOT + path, "tmpfs", _NO_SUID | _NO_DEV, options)
            for path, descriptor, is_writable in sources:
                _bind(path, descriptor, is_writable or path in devices)
            _link((*readable, *writable))
            _mount_proc(_ROOT + "/proc")
            _name_the_user()
            os.chdir(_ROOT)
            root_as_bytes = b"."
            syscalls.syscall(syscalls.PIVOT_ROOT, root_as_bytes, root_as_bytes)
        except OSError:
            syscalls.detach(_ROOT)
            raise
        syscalls.detach(".")
        syscalls.mount(None, "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)
    finally:
        for _, descriptor, _ in sources:
            os.close(descriptor)
        os.chdir(working if os.path.isdir(working) else "/")


def _held(readable: Sequence[str], writable: Sequence[str]) -> list[tuple[str, int, bool]]:
    """Return (real path, open descriptor, whether it is writable), parents before contents, without duplicates."""
    wanted = {os.path.realpath(path): False for path in readable}
    wanted.update({os.path.realpath(path): True for path in writable})
    held: list[tuple[str, int, bool]] = []
    for path in sorted(wanted):
        nearest = next((entry for entry in reversed(held) if path.startswith(entry[0] + "/")), None)
        if path in _MADE_NEW or (nearest and nearest[2] == wanted[path]):
            continue
        try:
            held.append((path, os.open(path, os.O_PATH | os.O_CLOEXEC), wanted[path]))
        except FileNotFoundError:
            continue
    return held


def _bind(path: str, descriptor: int, is_writable: bool) -> None:
    target = _ROOT + path
    if not os.path.exists(target):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    syscalls.mount(f"/proc/self/fd/{descriptor}", target, None, _BIND | _RECURSIVE)
    if not is_writable:
        _make_read_only(target)


def _make_read_only(target: str) -> None:
    current_folder, recursive = -100, 0x8000
    attributes = struct.pack("=4Q", _READ_ONLY | _NO_SUID | _NO_DEV, 0, 0, 0)
    try:
        syscalls.syscall(syscalls.MOUNT_SETATTR, current_folder, os.fsencode(target), recursive, attributes, 32)
    except OSError:  # before Linux 5.12: only the top mount, keeping the flags that must not be dropped
        kept = os.statvfs(target).f_flag & (_NO_SUID | _NO_DEV | _NO_EXEC | 1024 | 2048 | 4096)
        times = sum(new for old, new in ((1024, 1024), (2048, 2048), (4096, 1 << 21)) if kept & old)
        flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV | (kept & _NO_EXEC) | times
        syscalls.mount(None, target, None, flags)


def _link(paths: Iterable[str]) -> None:
    """Create symbolic links, so that a path given through one is also found by that name."""
    links = dict(_LINKS)
    for path in (*paths, "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        real = os.path.realpath(path)
        if path != real:
            links[os.path.abspath(path)] = real
    for path, real in links.items():
        target = _ROOT + path
        if not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(real, target)


def _mount_proc(target: str) -> None:
    """Mount /proc read-only: the host's root could otherwise write its switches without any capability."""
    os.makedirs(target, exist_ok=True)
    syscalls.mount("proc", target, "proc", _NO_SUID | _NO_DEV | _NO_EXEC)
    syscalls.mount(None, target, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV | _NO_EXEC)


def _name_the_user() -> None:
    """Write an entry for the user, because getpwuid() without one fails in some libraries; the machine's list stays
    outside.
    """
    os.makedirs(_ROOT + "/etc", exist_ok=True)
    _write(_ROOT + "/etc/passwd", f"model:x:{os.getuid()}:{os.getgid()}:model:/tmp:/bin/false\n")
    _write(_ROOT + "/etc/group", f"model:x:{os.getgid()}:\n")
