"""Tries, from behind the walls, what a model must not be able to do. `prism doctor` and the tests run it.

    python -I -S attempts.py < {"confinement": {…} or null, "targets": {…}}

Prints {"report": what confine() said, "attempts": {area: {attempt: why it was refused, or "" if it succeeded}}}.
The targets are real and belong to whoever asks: a listener, a socket, a file, a folder, a process to kill.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Callable, Dict

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from model_container.config import Confinement
from model_container.confine import confine

Attempts = Dict[str, Callable[[], object]]


def attempts(targets: dict[str, Any]) -> dict[str, Attempts]:
    """targets: tcp_port and udp_port on 127.0.0.1, unix_socket, abstract_socket, secret (file), folder, pid."""
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
    os.waitpid(pid, 0x40000000)  # __WALL: also who is not our child
    _call(_libc.ptrace, detach, pid, 0, 0)


def refusals(targets: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Try everything; the reason of each refusal, "" for what succeeded."""
    return {area: {name: _refusal(one) for name, one in some.items()} for area, some in attempts(targets).items()}


def _refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def main() -> None:
    asked = json.load(sys.stdin)
    report = confine(Confinement(**asked["confinement"])) if asked["confinement"] else {}
    print(json.dumps({"report": report, "attempts": refusals(asked["targets"])}), flush=True)


if __name__ == "__main__":
    main()
