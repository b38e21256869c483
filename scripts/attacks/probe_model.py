"""A hostile model: at each request it tries what it is told, and answers with how that was refused.

Deployed as `model.py` by probes.py, which puts in place of TARGETS what there is to reach: real files, ports and
processes of whoever attacks. Runs under the model's own Python, so it imports nothing of PRISM.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
from pathlib import Path

TARGETS = {}
LIBC = ctypes.CDLL(None, use_errno=True)


class Model:
    def load(self):
        self.probes = probes()

    def predict(self, rows):
        return [refusal(self.probes[row["probe"]]) if row["probe"] else json.dumps(sorted(self.probes)) for row in rows]


def refusal(probe):
    """Why an attempt failed; "" if it succeeded."""
    try:
        probe()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def call(number, *arguments):
    """A system call by its number on x86_64."""
    ctypes.set_errno(0)
    if LIBC.syscall(number, *arguments) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def probes():
    attempts = {}
    for path in TARGETS["secrets"]:
        attempts[f"read {path}"] = lambda path=path: Path(path).read_bytes()
        attempts[f"open {path} through /proc/self/root"] = lambda path=path: Path(f"/proc/self/root{path}").read_bytes()
        attempts[f"link to {path}"] = lambda path=path: read_through_link(path)
        attempts[f"write {path}"] = lambda path=path: append_to(path)
    for folder in TARGETS["folders"]:
        attempts[f"list {folder}"] = lambda folder=folder: list_all(folder)
        attempts[f"write into {folder}"] = lambda folder=folder: Path(folder, "mark").write_text("x")
        attempts[f"mount over {folder}"] = lambda folder=folder: call(165, b"tmpfs", folder.encode(), b"tmpfs", 0, None)
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", TARGETS["port"])),
        (socket.AF_INET, (TARGETS["host"], TARGETS["port"])),
        (socket.AF_INET, ("169.254.169.254", 80)),
        (socket.AF_INET, ("192.0.2.1", 53)),
        (socket.AF_INET6, ("::1", TARGETS["port"])),
    ):
        for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
            attempts[f"{name} to {address[0]}"] = lambda f=family, k=kind, a=address: reach(f, k, a)
    for address in TARGETS["sockets"]:
        attempts[f"reach the socket {address!r}"] = lambda address=address: reach(
            socket.AF_UNIX, socket.SOCK_STREAM, address
        )
    for name, family in (("netlink", 16), ("packet", 17), ("vsock", 40), ("bluetooth", 31), ("alg", 38), ("can", 29)):
        attempts[f"open a socket of {name}"] = lambda family=family: socket.socket(family, socket.SOCK_RAW)
    for pid in TARGETS["pids"]:
        attempts[f"signal {pid}"] = lambda pid=pid: os.kill(pid, 0)
        attempts[f"continue {pid}"] = lambda pid=pid: os.kill(pid, signal.SIGCONT)
        attempts[f"trace {pid}"] = lambda pid=pid: call(101, 0x4206, pid, 0, 0)  # PTRACE_SEIZE, which stops nobody
        attempts[f"read the memory of {pid}"] = lambda pid=pid: read_some(f"/proc/{pid}/mem")
        attempts[f"read the environment of {pid}"] = lambda pid=pid: read_some(f"/proc/{pid}/environ")
        attempts[f"list the descriptors of {pid}"] = lambda pid=pid: list_all(f"/proc/{pid}/fd")
        attempts[f"enter the root of {pid}"] = lambda pid=pid: list_all(f"/proc/{pid}/root/root")
        attempts[f"change the priority of {pid}"] = lambda pid=pid: os.setpriority(os.PRIO_PROCESS, pid, 19)
        attempts[f"open {pid} as a descriptor"] = lambda pid=pid: os.pidfd_open(pid)
    for name, number, arguments in SYSTEM_CALLS:
        attempts[f"call {name}"] = lambda number=number, arguments=arguments: call(number, *arguments)
    attempts.update(OTHERS)
    return attempts


SYSTEM_CALLS = (
    ("mount", 165, (b"x", b"/tmp", b"tmpfs", 0, None)),
    ("umount", 166, (b"/tmp", 2)),
    ("pivot_root", 155, (b"/tmp", b"/tmp")),
    ("chroot", 161, (b"/",)),
    ("unshare a user namespace", 272, (0x10000000,)),
    ("unshare mounts", 272, (0x00020000,)),
    ("unshare the network", 272, (0x40000000,)),
    ("setns", 308, (0, 0)),
    ("reboot", 169, (0xFEE1DEAD, 672274793, 0, 0)),
    ("swapoff", 168, (b"/swap",)),
    ("sethostname", 170, (os.uname().nodename.encode(), len(os.uname().nodename))),
    ("init_module", 175, (b"x", 1, b"")),
    ("delete_module", 176, (b"x", 0)),
    ("kexec_load", 246, (0, 0, None, 0)),
    ("bpf", 321, (0, bytes(128), 128)),
    ("perf_event_open", 298, (bytes(128), 0, -1, -1, 0)),
    ("userfaultfd", 323, (0,)),
    ("io_uring_setup", 425, (1, bytes(128))),
    ("keyctl", 250, (0, -3, 0)),
    ("add_key", 248, (b"user", b"x", b"x", 1, -3)),
    ("request_key", 249, (b"user", b"x", None, 0)),
    ("acct", 163, (b"/tmp/acct",)),
    ("quotactl", 179, (0, None, 0, None)),
    ("open_by_handle_at", 304, (-100, bytes(128), 0)),
    ("iopl", 172, (3,)),
    ("ioperm", 173, (0, 8, 1)),
    ("personality", 135, (0x0040000,)),
    ("prctl for its parent's death", 157, (1, 0, 0, 0, 0)),
    ("fsopen", 430, (b"tmpfs", 0)),
    ("open_tree", 428, (-100, b"/", 1)),
    ("move_mount", 429, (-100, b"/", -100, b"/tmp", 0)),
    ("syslog", 103, (3, bytes(16), 16)),
    ("adjtimex to set the clock", 159, (struct.pack("i", 0x100) + bytes(252),)),
    ("mknod of a disk", 133, (b"/tmp/disk", 0o60600, 0x800)),
    ("setuid 0", 105, (0,)) if os.getuid() else ("setgroups", 116, (1, struct.pack("I", 0))),
    ("capset", 126, (struct.pack("Ii", 0x20080522, 0), struct.pack("III", 0xFFFFFFFF, 0xFFFFFFFF, 0) * 2)),
)


def append_to(path):
    """Open it for writing, and leave it as it is: should that succeed, nothing of the host is changed."""
    with Path(path).open("a"):
        pass


def read_some(path):
    if not Path(path).read_bytes():
        raise PermissionError("empty")


def read_through_link(path):
    link = f"/tmp/link-{os.getpid()}"
    os.symlink(path, link)
    try:
        Path(link).read_bytes()
    finally:
        os.unlink(link)


def list_all(folder):
    if not os.listdir(folder):
        raise PermissionError("empty")


def reach(family, kind, address):
    with socket.socket(family, kind) as sender:
        sender.settimeout(1)
        if kind == socket.SOCK_DGRAM:
            sender.sendto(b"x", address)
        else:
            sender.connect(address)


def find_a_secret():
    secrets = [value for value in os.environ.values() if "canary" in value]
    if not secrets:
        raise PermissionError("no secret in the environment")


def run_a_setuid_program():
    os.setuid(0) if os.getuid() else os.setresuid(1, 0, 0)
    if os.getuid() != 1:
        Path("/etc/shadow").read_bytes()
    raise PermissionError("nothing won")


def write_into_the_interpreter():
    append_to(os.__file__)


def write_into_a_package():
    import numpy

    append_to(numpy.__file__)


def write_into_the_runtime():
    import model_container

    append_to(model_container.__file__)


def write_beside_itself():
    append_to(__file__)


def raise_a_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1))


def gain_a_capability():
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff"))
    if not int(effective, 16):
        raise PermissionError("no capability is held")


def inherit_a_descriptor():
    """Something open that leads to a file, a socket or a pipe of the gateway: only its own are to be there."""
    for name in os.listdir("/proc/self/fd"):
        try:
            to = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if any(secret in to for secret in TARGETS["secrets"]) or "docker.sock" in to:
            return
    raise PermissionError("only its own")


OTHERS = {
    "find a secret in the environment": find_a_secret,
    "run as another user": run_a_setuid_program,
    "write into the interpreter": write_into_the_interpreter,
    "write into a package": write_into_a_package,
    "write into the runtime": write_into_the_runtime,
    "write beside itself": write_beside_itself,
    "raise a limit": raise_a_limit,
    "hold a capability": gain_a_capability,
    "use an inherited descriptor": inherit_a_descriptor,
}
