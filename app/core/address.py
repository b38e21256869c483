"""Where a replica accepts connections."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

LOOPBACK = "127.0.0.1"


class Address(Struct, frozen=True):
    """The place where a replica accepts connections: a Unix socket of this machine, else a host and a port.

    socket: its path, or "". host, port: a name or an IP address, and a TCP port; "" and 0 where the replica has none.
    A container has both ways; the socket is taken where there is one.

    TCP traffic is not encrypted. The replica's token authenticates the gateway; it goes over the wire as it is, so
    anybody who reads the traffic can use it.
    """

    socket: str = ""
    host: str = ""
    port: int = 0


def with_address(replica: Any) -> Any:
    """Return the record of a replica with its `address`, also where an earlier PRISM wrote `socket` and `port`.

    replica: decoded JSON; what is no object is returned as it is.
    """
    if not isinstance(replica, dict) or "address" in replica:
        return replica
    socket, port = replica.get("socket", ""), replica.get("port", 0)
    return {**replica, "address": {"socket": socket, "host": LOOPBACK if port else "", "port": port}}
