"""Landlock: restriction of the paths that this process and its children may access, without root (Linux 5.13 and
newer).

Source: linux/Documentation/userspace-api/landlock.rst. A newer ABI only adds rights; each is used where it exists.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import Sequence

from model_container.sandbox import syscalls

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_FIRST_ABI = (1 << 13) - 1
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_TCP_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def abi() -> int:
    """Return the Landlock ABI version; 0 if the kernel has no Landlock or it is switched off."""
    only_version = 1
    try:
        return syscalls.syscall(syscalls.LANDLOCK_CREATE_RULESET, None, 0, only_version)
    except OSError:
        return 0


def _file_rights(version: int) -> int:
    newer = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
    return _FIRST_ABI | sum(right for since, right in newer if version >= since)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor))
        beneath_a_path = 1
        syscalls.syscall(syscalls.LANDLOCK_ADD_RULE, ruleset, beneath_a_path, rule, 0)
    finally:
        os.close(descriptor)


def restrict(readable: Sequence[str] | None, writable: Sequence[str]) -> int:
    """Deny access to everything but these paths and what is below them; returns the ABI used.

    readable: paths to read and execute; None does not restrict the file system. Paths that do not exist are skipped.
    From ABI 4 on, no TCP port can be bound or connected to. From ABI 6 on, no abstract Unix socket can be reached and
    no foreign process signalled. Needs no_new_privs. Raises OSError.
    """
    version = abi()
    if version == 0:
        raise OSError("the kernel has no Landlock, or it is switched off")
    every = _file_rights(version)
    fields = [
        every if readable is not None else 0,
        _TCP_BIND_AND_CONNECT if version >= 4 else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0,
    ]
    known = 3 if version >= 6 else 2 if version >= 4 else 1
    if not any(fields):
        return version
    attributes = ctypes.create_string_buffer(struct.pack(f"={known}Q", *fields[:known]))
    ruleset = syscalls.syscall(syscalls.LANDLOCK_CREATE_RULESET, attributes, 8 * known, 0)
    try:
        if readable is not None:
            for path in readable:
                _allow(ruleset, path, _READ)
            for path in writable:
                _allow(ruleset, path, every & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))
        syscalls.syscall(syscalls.LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version
