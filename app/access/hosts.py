"""Knows the names of this server: a page of another site must not reach it under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})"
HOST = re.compile(rf"(?:{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::[0-9]{{1,5}})?")
"""A Host header's value: a name or an IPv4 address, or an IPv6 address in brackets; with or without a port."""


def is_host(value: str) -> bool:
    """Return whether a Host header's value is well formed (RFC 9110, 7.2), without escapes or a user in front."""
    return HOST.fullmatch(value) is not None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on that address."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback


class HostAllowList:
    """The host names of this server. names: accepted in a Host header besides addresses and localhost."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.strip().lower() for name in names if name.strip()} | {"localhost"}

    def known(self, host: str) -> bool:
        """Return whether a Host header's value names this server. Any IP address does: only names can be rebound."""
        if not is_host(host):
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True
