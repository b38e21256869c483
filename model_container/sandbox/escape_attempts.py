"""Attempts, from inside the sandbox, of what a model must not be able to do. `prism doctor` and the tests run them.

    python -I -S escape_attempts.py < {"confinement": {…} or null, "targets": {…}}
    python -I -S escape_attempts.py < {"confinement": {…} or null, "memory": "in memfds", "size_mb": 120,
                                       "hold_seconds": 1}

Prints {"report": the result of confine(), "attempts": {area: {attempt: why it was refused, or "" if it succeeded}},
"kinds_of_memory": the values that "memory" accepts}.
The targets are real and belong to the caller: a listener, a socket, a file, a folder, a process to kill. An attempt to
hold too much memory is either refused, or the process is killed and prints nothing.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from model_container.contract.config import Confinement
from model_container.sandbox.confine import confine

Attempts = Dict[str, Callable[[], object]]


def attempts(targets: dict[str, Any]) -> dict[str, Attempts]:
    """Return all attempts.

    targets: tcp_port and udp_port on 127.0.0.1, unix_socket, abstract_socket, secret (file), folder, pid.
    """
    loopback = "127.0.0.1"
    return {
        "network": {
            "open a TCP connection": lambda: _tcp(loopback, targets["tcp_port"]),
            "send a UDP datagram": lambda: _udp(loopback, targets["udp_port"]),
            "reach a Unix socket": lambda: _unix(targets["unix_socket"]),
            "reach an abstract socket": lambda: _unix("\0" + targets["abstract_socket"]),
        },
        "files": {
            "read a file of the gateway": lambda: Path(targets["secret"]).read_bytes(),
            "list a folder of the gateway": lambda: os.listdir(targets["folder"]),
            "write outside its folder": lambda: Path(targets["folder"], "written").write_text("x"),
            "delete a file of the gateway": lambda: os.unlink(os.path.join(targets["folder"], "doomed")),
        },
        "processes": {
            "read another's command line": lambda: Path(f"/proc/{targets['pid']}/cmdline").read_bytes(),
            "read its environment": lambda: Path(f"/proc/{targets['pid']}/environ").read_bytes(),
            "trace it": lambda: _trace(targets["pid"]),
            "kill it": lambda: os.kill(targets["pid"], signal.SIGKILL),
        },
        "syscalls": {
            "make a user namespace": lambda: _call(_libc.unshare, 0x10000000),
            "change its personality": lambda: _call(_libc.personality, 0x0040000),
            "let go of its supervisor": lambda: _call(_libc.prctl, 1, 0, 0, 0, 0),
        },
    }


def holdings(size: int) -> Attempts:
    """Return functions that each hold and fill `size` bytes of one kind of memory."""
    return {
        "in memfds": lambda: _memfds(size),
        "in System V shared memory": lambda: _system_v(size),
        "in a shared mapping": lambda: _touch(mmap.mmap(-1, size)),
        "in a mapping of /dev/zero": lambda: _zeros(size),
        "in a mapping let go of": lambda: _let_go(mmap.mmap(-1, size)),
        "in files in memory": lambda: _files(size),
        "in several processes": lambda: _processes(size),
    }


_PAGE = mmap.PAGESIZE
_MIB = 1 << 20


def _fill(file: int, size: int) -> None:
    for _ in range(size // _MIB):
        os.write(file, b"x" * _MIB)


def _memfds(size: int) -> None:
    """Fill four memfds: each is a file, and a separate limit applies to the size of a file."""
    for _ in range(4):
        _fill(os.memfd_create("attempt"), size // 4)


def _touch(memory: Any) -> None:
    for place in range(0, len(memory), _PAGE):
        memory[place] = 1


def _let_go(memory: mmap.mmap) -> None:
    """Fill shared memory and discard the mapping's pages: shared memory stays allocated even if no process maps it."""
    _touch(memory)
    memory.madvise(mmap.MADV_DONTNEED)


def _zeros(size: int) -> None:
    with open("/dev/zero", "r+b", buffering=0) as file:
        _touch(mmap.mmap(file.fileno(), size))


def _system_v(size: int) -> None:
    new, at_once = 0, 0o1000  # IPC_PRIVATE, IPC_CREAT
    identifier = _libc.shmget(new, ctypes.c_size_t(size), at_once | 0o600)
    if identifier == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _libc.shmat.restype = ctypes.c_void_p
    address = _libc.shmat(identifier, None, 0)
    _libc.shmctl(identifier, 0, None)  # removed when its last user detaches
    ctypes.memset(address, 1, size)


def _files(size: int) -> None:
    folders = [folder for folder in ("/tmp", "/dev/shm") if os.access(folder, os.W_OK)]
    if not folders:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    for folder in folders:
        with tempfile.TemporaryFile(dir=folder) as file:
            _fill(file.fileno(), size // len(folders))
            _KEPT.append(os.dup(file.fileno()))


_KEPT: list[int] = []


def _processes(size: int) -> None:
    """Hold the memory in four child processes that end with this one."""
    filled, life = os.pipe(), os.pipe()
    for _ in range(4):
        if os.fork() == 0:
            os.close(life[1])
            held = bytearray(b"x") * (size // 4)
            os.write(filled[1], b"x")
            os.read(life[0], 1)
            os._exit(len(held) % 2)
    for _ in range(4):
        os.read(filled[0], 1)
    _KEPT.append(life[1])


_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: Any, *arguments: int) -> None:
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _tcp(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=2).close()


def _udp(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (host, port))


def _unix(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(address)


def _trace(pid: int) -> None:
    attach, detach = 16, 17
    _call(_libc.ptrace, attach, pid, 0, 0)
    os.waitpid(pid, 0x40000000)  # __WALL: also waits for a process that is not our child
    _call(_libc.ptrace, detach, pid, 0, 0)


def refusals(targets: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Try everything. Returns the reason of each refusal, "" for an attempt that succeeded."""
    return {
        area: {name: _refusal(attempt) for name, attempt in some.items()} for area, some in attempts(targets).items()
    }


def _refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def holding(name: str, size: int, seconds: float) -> str:
    """Return why the memory was refused, "" if it could be held for `seconds`."""

    def hold() -> None:
        holdings(size)[name]()
        time.sleep(seconds)

    return _refusal(hold)


def main() -> None:
    request = json.load(sys.stdin)
    report = confine(Confinement(**request["confinement"])) if request["confinement"] else {}
    if "memory" in request:
        name = request["memory"]
        outcomes = {"memory": {name: holding(name, request["size_mb"] << 20, request["hold_seconds"])}}
    else:
        outcomes = refusals(request["targets"])
    print(json.dumps({"report": report, "attempts": outcomes, "kinds_of_memory": list(holdings(0))}), flush=True)


if __name__ == "__main__":
    main()
