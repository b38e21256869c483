"""Reads the address of an SSH tunnel, `ssh://user@host:port?remote_port=N`. No part of it can be an option of ssh."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from msgspec import Struct

FORM = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
    r"(?:\?remote_port=(?P<remote_port>[0-9]{1,5}))?"
)


class SshAddress(Struct, frozen=True):
    """The address of an SSH tunnel. user: "" leaves it to ssh's configuration. remote_port: 0 lets the host choose."""

    host: str
    user: str = ""
    port: int = 0
    remote_port: int = 0

    def url(self, port: int) -> str:
        """Return the URL of what the host forwards from its `port`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}" + (f" (port {self.port})" if self.port else "")


def ssh_address(text: str) -> SshAddress:
    """Read an address. Raises ValueError, whose message begins with a verb, to follow the name of a setting."""
    if "@" in text and ":" in text.removeprefix("ssh://").partition("@")[0]:
        raise ValueError("holds a password; use a key, or ssh-agent")
    parts = FORM.fullmatch(text)
    if parts is None:
        raise ValueError("is neither `ngrok` nor a URL like ssh://user@host:port?remote_port=N")
    port, remote_port = (_port(parts[name], name) for name in ("port", "remote_port"))
    host = parts["host"]
    if host.startswith("["):
        host = str(IPv6Address(host[1:-1]))
    return SshAddress(host, parts["user"] or "", port, remote_port)


def _port(text: str | None, name: str) -> int:
    """Read a port; 0 where there is none. Raises ValueError for a number that is no port."""
    if text is None:
        return 0
    if not 1 <= int(text) <= 65535:
        raise ValueError(f"has a {name.replace('_', ' ')} that is not between 1 and 65535")
    return int(text)
