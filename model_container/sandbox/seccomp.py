"""Filter that refuses the system calls that no model needs, in classic BPF (x86_64 and aarch64).

It is a deny list, not an allow list: numerical libraries use whatever they find, and an allow list would break with the
next release of the C library. What a refused call could reach is also blocked by the other layers; see confine.py.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from model_container.sandbox import syscalls

# name: (x86_64, aarch64), -1 if an architecture does not have the call.
_NUMBERS: dict[str, tuple[int, int]] = {
    "ioctl": (16, 29),
    "socket": (41, 198),
    "connect": (42, 203),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "uselib": (134, -1),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "pivot_root": (155, 41),
    "_sysctl": (156, -1),
    "prctl": (157, 167),
    "chroot": (161, 51),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "create_module": (174, -1),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "query_module": (178, -1),
    "quotactl": (179, 60),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "clock_settime": (227, 112),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "sendmmsg": (307, 269),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "quotactl_fd": (443, 443),
}
# Calls that allocate memory which, once unmapped, belongs to no process and no folder.
_UNSEEN_MEMORY: dict[str, tuple[int, int]] = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
}
_MMAP = (9, 222)
_CONDITIONAL = ("ioctl", "socket", "sendto", "sendmsg", "sendmmsg", "socketpair", "clone", "personality", "prctl")
_LAST_KNOWN = 462  # mseal; later calls get the answer of an older kernel

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_EQUAL, _GREATER, _ANY_BIT = 0x15, 0x25, 0x45
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
_MSG_FASTOPEN = 0x20000000
_CLONE_NEW = 0x7E020000  # every CLONE_NEW* that clone() can carry
_MAP_SHARED, _MAP_ANONYMOUS = 0x1, 0x20  # MAP_SHARED_VALIDATE also has the first bit, MAP_PRIVATE does not
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_PERSONALITY_QUERY = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def _low(argument: int) -> int:
    return 16 + 8 * argument


def _jump(test: int, value: int, yes: int, no: int) -> Instruction:
    return (test, yes, no, value)


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _answer(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)


_PERMIT = _answer(_ALLOW)
_EPERM = _answer(_REFUSE | errno.EPERM)
_ENOSYS = _answer(_REFUSE | errno.ENOSYS)


def _refuse_if(argument: int, test: int, value: int) -> list[Instruction]:
    return [_load(_low(argument)), _jump(test, value, 0, 1), _EPERM, _PERMIT]


def _stream_of_unix_only() -> list[Instruction]:
    """Allow only stream sockets of AF_UNIX.

    Without datagrams, an address is only reachable by connect(), which is refused.
    """
    return [
        _load(_low(0)),
        _jump(_EQUAL, _AF_UNIX, 1, 0),
        _EPERM,
        _load(_low(1)),
        (_AND, 0, 0, _SOCK_TYPE_MASK),
        _jump(_EQUAL, _SOCK_STREAM, 0, 1),
        _PERMIT,
        _EPERM,
    ]


def _conditions() -> dict[str, list[Instruction]]:
    """Return the code that decides each conditional call by its arguments."""
    return {
        "socket": _stream_of_unix_only(),
        "socketpair": _stream_of_unix_only(),
        # With an address or a Fast Open, a send also connects.
        "sendto": [
            _load(_low(3)),
            _jump(_ANY_BIT, _MSG_FASTOPEN, 4, 0),
            _load(_low(4)),
            _jump(_EQUAL, 0, 0, 2),
            _load(_low(4) + 4),
            _jump(_EQUAL, 0, 1, 0),
            _EPERM,
            _PERMIT,
        ],
        "sendmsg": _refuse_if(2, _ANY_BIT, _MSG_FASTOPEN),
        "sendmmsg": _refuse_if(3, _ANY_BIT, _MSG_FASTOPEN),
        "clone": _refuse_if(0, _ANY_BIT, _CLONE_NEW),
        # These inject input into a terminal.
        "ioctl": [
            _load(_low(1)),
            _jump(_EQUAL, _TIOCSTI, 1, 0),
            _jump(_EQUAL, _TIOCLINUX, 0, 1),
            _EPERM,
            _PERMIT,
        ],
        "personality": [_load(_low(0)), _jump(_EQUAL, _PERSONALITY_QUERY, 1, 0), _EPERM, _PERMIT],
        # A runtime that no longer dies with its supervisor would survive a stop.
        "prctl": _refuse_if(0, _EQUAL, syscalls.PR_SET_PDEATHSIG),
    }


def _without_unseen_memory(column: int) -> list[Instruction]:
    """Answer like a kernel without such memory, so that libraries use files in /dev/shm, whose size is known."""
    code = [_load(0)]
    for numbers in _UNSEEN_MEMORY.values():
        code += [_jump(_EQUAL, numbers[column], 0, 1), _ENOSYS]
    return [
        *code,
        _jump(_EQUAL, _MMAP[column], 0, 5),
        _load(_low(3)),
        _jump(_ANY_BIT, _MAP_ANONYMOUS, 0, 2),
        _jump(_ANY_BIT, _MAP_SHARED, 0, 1),
        _EPERM,
        _load(0),
    ]


def program(machine: str, unseen_memory: bool = True) -> list[Instruction]:
    """Build the filter for one architecture. Raises KeyError for an unknown architecture.

    unseen_memory: whether to allow memory that only a control group counts: memfd, System V, shared anonymous.
    """
    column = {"x86_64": 0, "aarch64": 1}[machine]
    code = [_load(4), _jump(_EQUAL, _AUDIT_ARCH[machine], 1, 0), _answer(_KILL), _load(0)]
    if machine == "x86_64":
        code += [_jump(_ANY_BIT, _X32_BIT, 0, 1), _answer(_KILL)]
    code += [_jump(_GREATER, _LAST_KNOWN, 0, 1), _ENOSYS]
    if not unseen_memory:
        code += _without_unseen_memory(column)
    for name, block in _conditions().items():
        code += [_jump(_EQUAL, _NUMBERS[name][column], 0, len(block)), *block]
    for name, numbers in _NUMBERS.items():
        if numbers[column] >= 0 and name not in _CONDITIONAL:
            # The C library tries clone3 first and falls back to clone, whose flags a filter can read.
            code += [_jump(_EQUAL, numbers[column], 0, 1), _ENOSYS if name == "clone3" else _EPERM]
    return [*code, _PERMIT]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(unseen_memory: bool = True) -> None:
    """Install the filter for this process, all its threads and every later child, for good. Raises OSError.

    Needs no_new_privs or CAP_SYS_ADMIN.
    """
    code = program(syscalls.MACHINE, unseen_memory)
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in code))
    header = _Program(len(code), ctypes.cast(packed, ctypes.c_void_p))
    set_mode_filter, every_thread = 1, 1
    try:
        syscalls.syscall(syscalls.SECCOMP, set_mode_filter, every_thread, ctypes.byref(header))
    except OSError:
        syscalls.prctl(syscalls.PR_SET_SECCOMP, 2, ctypes.byref(header))
