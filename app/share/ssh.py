"""Tunnel by the system's `ssh`: a host of the user forwards one of its ports to this machine. It needs no account.

The host decides who can reach that port: with `GatewayPorts no`, sshd's default, only the host itself can. We request
all addresses, since a link that only the host can open is useless, and then test whether the link works.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from pathlib import Path

from app.core.ssh_address import SshAddress
from app.errors import TunnelFailed
from app.share.child import Child, guarded
from app.share.ssh_output import diagnose, granted_port, login
from app.share.tunnel import OnWorker, Processes

ALIVE_SECONDS = 15
ALIVE_TRIES = 2
REACH_SECONDS = 5
ANSWER_BYTES = 4096
CONNECT_SHARE = 2 / 3
"""Share of the opening timeout for the connection, so that an unreachable host is told apart from a slow one."""

# ssh must never prompt, and nothing may outlive the ssh process, as a shared master connection would.
OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ExitOnForwardFailure": "yes",
    "ServerAliveInterval": str(ALIVE_SECONDS),
    "ServerAliveCountMax": str(ALIVE_TRIES),
    "ControlMaster": "no",
    "ControlPath": "none",
    "ForkAfterAuthentication": "no",
    "PermitLocalCommand": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
}


class SshTunnel:
    """Tunnel by ssh. identity, known_hosts: files to use in place of ssh's defaults."""

    kind = "ssh"

    def __init__(
        self,
        address: SshAddress,
        processes: Processes,
        *,
        start_timeout_seconds: float,
        identity: Path | None = None,
        known_hosts: Path | None = None,
    ) -> None:
        self._address = address
        self._processes = processes
        self._timeout_seconds = start_timeout_seconds
        self._identity = identity
        self._known_hosts = known_hosts

    async def open(self, port: int, on_worker: OnWorker) -> SshConnection:
        command = [self._program(), *self.arguments(port)]
        child = await Child.start(guarded(command, os.getpid()), self._processes)
        try:
            await on_worker(child.worker)
            async with asyncio.timeout(self._timeout_seconds):
                granted = await self._granted(child)
            url = self._address.url(granted)
            return SshConnection(child, self._address, url, await unreached(url))
        except TimeoutError:
            await child.kill()
            raise self._slow() from None
        except BaseException:
            await child.kill()
            raise

    def arguments(self, port: int) -> list[str]:
        """Build ssh's arguments.

        Host and user cannot be mistaken for options: in an `SshAddress` none begins with a dash.
        """
        options = dict(OPTIONS, ConnectTimeout=str(max(1, round(self._timeout_seconds * CONNECT_SHARE))))
        options["LogLevel"] = "DEBUG1" if self._address.remote_port else "INFO"
        if self._known_hosts is not None:
            options["UserKnownHostsFile"] = f'"{str(self._known_hosts).replace("%", "%%")}"'
        if self._identity is not None:
            options["IdentitiesOnly"] = "yes"
        arguments = ["-N", "-T", *(part for item in options.items() for part in ("-o", "=".join(item)))]
        if self._identity is not None:
            arguments += ["-i", str(self._identity)]
        if self._address.port:
            arguments += ["-p", str(self._address.port)]
        return [*arguments, "-R", f"*:{self._address.remote_port}:127.0.0.1:{port}", "--", login(self._address)]

    def _program(self) -> str:
        program = shutil.which("ssh")
        if program is None:
            raise TunnelFailed(
                "There is no `ssh` on this machine.",
                reason="ssh_missing",
                hint="Install OpenSSH's client (Debian: apt install openssh-client).",
            )
        for file, setting in (
            (self._identity, "PRISM_TUNNEL_SSH_IDENTITY"),
            (self._known_hosts, "PRISM_TUNNEL_SSH_KNOWN_HOSTS"),
        ):
            if file is not None and not os.access(file, os.R_OK):
                raise TunnelFailed(f"{file} cannot be read.", reason="file_missing", hint=f"Correct {setting}.")
        return program

    async def _granted(self, child: Child) -> int:
        """Return the port that the host forwards from. Raises TunnelFailed if ssh ends without one."""
        async for line in child.lines():
            if port := granted_port(line):
                return port
        raise diagnose(child.last, self._address)

    def _slow(self) -> TunnelFailed:
        return TunnelFailed(
            f"{self._address} did not open the tunnel within {self._timeout_seconds:g} s.",
            reason="too_slow",
            hint="Try again, or raise PRISM_TUNNEL_START_TIMEOUT.",
        )


class SshConnection:
    def __init__(self, child: Child, address: SshAddress, url: str, warning: str) -> None:
        self.url = url
        self.warning = warning
        self._child = child
        self._address = address

    async def broken(self) -> TunnelFailed:
        async for _ in self._child.lines():
            pass
        return diagnose(self._child.last, self._address)

    async def close(self) -> None:
        await self._child.kill()


async def unreached(url: str) -> str:
    """Return a warning for the user if the URL does not lead to this server; "" if it does.

    The check sends a request with a random id and looks for that id in the response.
    """
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(REACH_SECONDS):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                id = secrets.token_hex(8)
                head = f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nX-Request-ID: {id}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                if id.encode() in await reader.read(ANSWER_BYTES):
                    return ""
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        pass
    return (
        f"{url} does not lead to this server, as far as this machine can tell. If it does not from elsewhere either, set "
        f"`GatewayPorts clientspecified` in the sshd_config of {host}, open port {port} in its firewall, and see that "
        "no other program has that port."
    )
