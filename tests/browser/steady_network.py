"""Starts a browser that does not hear of changes of the machine's networks: `python steady_network.py PROGRAM ARGUMENT…`.

Chromium ends connections that it is opening when any network of the machine comes or goes, with ERR_NETWORK_CHANGED.
Tests with Docker, which run beside, create and remove networks all the time. Chromium hears of them through a netlink
socket, and does without where there is none: a seccomp filter refuses it. (net/base/address_tracker_linux.cc)
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

SOCKET = {"x86_64": 41, "aarch64": 198}
NETLINK = 16
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
FILTER = 2
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def refuse_netlink(socket: int) -> None:
    """For this process and all that it starts. socket: the system call's number."""
    instructions = [
        (LOAD, 0, 0, 0),  # the system call's number
        (EQUAL, 0, 3, socket),
        (LOAD, 0, 0, 16),  # its first argument
        (EQUAL, 0, 1, NETLINK),
        (RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    program = Program(len(instructions), packed)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0)):
        if prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def launcher(program: str, folder: Path) -> str:
    """Write a program into the folder that starts the given one so; return its path."""
    path = folder / Path(program).name
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{program}" "$@"\n')
    path.chmod(0o755)
    return str(path)


if __name__ == "__main__":
    if sys.platform == "linux" and platform.machine() in SOCKET:
        refuse_netlink(SOCKET[platform.machine()])
    os.execv(sys.argv[1], sys.argv[1:])
