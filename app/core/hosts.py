"""By which names this server is known: a page of another site must not reach it under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit


class Hosts:
    """names: besides addresses and localhost, those that may stand in a request's Host."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.strip().lower() for name in names if name.strip()} | {"localhost"}

    def known(self, host: str) -> bool:
        """Whether a Host header's value names this server. An address does, whichever it is: only names can be rebound."""
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
