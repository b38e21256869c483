"""Finds the Unix socket of a container: `/run/prism` there is in memory, small, and no folder of ours.

A folder of this machine that is mounted into a container is one that a model can fill, and plant links in. So nothing
is mounted: the socket is reached through /proc/<pid>/root, which leads to what the container's first process sees as
its root. Linux lets the gateway pass where it is root, or the container runs as its user and holds no capabilities.
Where it does not, the container's port on loopback is the way, with the same token.
See docs/decisions/0012-a-containers-socket-through-proc.md.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from msgspec import structs

from app.core.model import Replica
from app.runtime.docker.container import runtime_user


def reached(replica: Replica) -> Replica:
    """Return the replica, without its socket where the socket's folder cannot be seen from here."""
    address = replica.address
    if address.socket and _is_ours(Path(address.socket).parent) and _is_seen(replica):
        return replica
    return structs.replace(replica, address=structs.replace(address, socket=""))


def _is_ours(folder: Path) -> bool:
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == runtime_user()[0]


def _is_seen(replica: Replica) -> bool:
    """Return whether the process is the container's, by its control group, as dispatch/replica_socket.py asks, too."""
    try:
        return replica.id in Path(f"/proc/{replica.pid}/cgroup").read_text()
    except OSError:
        return False
