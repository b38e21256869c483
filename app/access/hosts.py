"""Knows the names of this server: a page of another site must not reach it under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})"
HOST = re.compile(rf"(?:{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::[0-9]{{1,5}})?")
"""A Host header's value: a name or an IPv4 address, or an IPv6 address in brackets; with or without a port."""

_THIS_MACHINE = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
SIGNS_OF_PROXIES = (
    *("forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-"),
    *("true-client-ip", "fastly-client-ip", "fly-client-ip", "cf-", "cdn-loop", "tailscale-", "ngrok-", "x-envoy-"),
)
"""How the names of headers begin that proxies and tunnels add, or that clients send for their sake."""


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


def is_direct(host: str, headers: Iterable[str]) -> bool:
    """Return whether a request names this machine as its Host and has no sign of a proxy or a tunnel in between.

    headers: names, in lower case. Their values are never read: a client may write into them what it likes.
    """
    return _THIS_MACHINE.fullmatch(host) is not None and not has_passed_proxy(headers)


def has_passed_proxy(headers: Iterable[str]) -> bool:
    """Return whether one of these names, in lower case, is that of a header which proxies and tunnels add."""
    return any(name.startswith(SIGNS_OF_PROXIES) for name in headers)


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
