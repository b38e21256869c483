"""A real OpenSSH server on loopback, run by the user of the tests, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path

import psutil

from tests.acceptance.server import free_port, wait_for

END_SECONDS = 30
"""Within which what was told to end has ended."""

PROGRAM = shutil.which("sshd") or "/usr/sbin/sshd"
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Where sshd, run by root, wants an empty folder; the system's own start scripts make it."""


class Sshd:
    """folder: for its files. options: further lines of sshd_config, which win."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = getpass.getuser()
        self.identity = folder / "user_key"
        self.known_hosts = folder / "known_hosts"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("host_key", "user_key"):
            make_key(folder / name)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.trust(folder / "host_key.pub")

    @property
    def address(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def trust(self, public_key: Path) -> None:
        """Have it be the host's key, and no other."""
        kind, key, *_ = public_key.read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def settings(self) -> dict[str, str]:
        """Return the settings of a PRISM server that shares over this host."""
        return {
            "PRISM_TUNNEL": self.address,
            "PRISM_TUNNEL_SSH_IDENTITY": str(self.identity),
            "PRISM_TUNNEL_SSH_KNOWN_HOSTS": str(self.known_hosts),
        }

    def start(self) -> None:
        if os.getuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            "\n".join(
                [
                    *self._options,
                    f"ListenAddress 127.0.0.1:{self.port}",
                    f"HostKey {self.folder}/host_key",
                    f"AuthorizedKeysFile {self.folder}/authorized_keys",
                    "PidFile none",
                    "StrictModes no",
                    "UsePAM no",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "LogLevel VERBOSE",
                ]
            )
        )
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-D", "-e", "-f", str(config)], stderr=log)
        wait_for(self._listens, 10, "sshd's start")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def connections(self) -> list[psutil.Process]:
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def cut(self) -> None:
        """End every connection that it serves, as a network that goes away would."""
        for process in self.connections():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def stop(self) -> None:
        if self._process is not None:
            self.cut()
            self._process.terminate()
            self._process.wait(10)
            self._process = None


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ssh_clients(port: int) -> list[psutil.Process]:
    """Every ssh, and every leash around one, that goes to this port."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if str(port) in line and "-R" in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
