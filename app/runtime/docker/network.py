"""Gives each PRISM a bridge network of its own, also where servers that were killed left theirs behind.

An engine has some thirty ranges of addresses for networks. A network goes with its last container (target.py); that of
a server that was killed, and whose folder is gone, would hold its range for good.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from app.errors import StartFailed
from app.runtime.docker.container import HOME_LABEL

if TYPE_CHECKING:
    from docker import DockerClient

NO_RANGE = ("non-overlapping IPv4 address pool", "predefined address pools have been fully subnetted")
"""The words of an engine, before and since version 25, that has no range of addresses left."""

STARTING = timedelta(minutes=1)
"""The age up to which a network without a container may be that of one about to start."""


def ensure_network(client: DockerClient, name: str, home: str) -> None:
    """Create the network unless it exists. Raises StartFailed if the engine has no range of addresses left for it."""
    from docker.errors import APIError

    if client.networks.list(names=[f"^{name}$"]):
        return
    try:
        _create(client, name, home)
    except APIError as error:
        if not _has_no_range(error):
            raise
        if not _remove_abandoned(client):
            raise StartFailed(
                "The Docker engine has no range of addresses left for another network.",
                hint="Remove networks that nothing uses with `docker network prune`, then deploy again.",
            ) from error
        _create(client, name, home)


def _create(client: DockerClient, name: str, home: str) -> None:
    client.networks.create(
        name,
        driver="bridge",
        labels={HOME_LABEL: home},
        options={
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.enable_ip_masquerade": "false",
        },
    )


def _has_no_range(error: Exception) -> bool:
    return any(words in str(error) for words in NO_RANGE)


def _remove_abandoned(client: DockerClient) -> int:
    """Remove the networks of any PRISM that no running container is in; return how many."""
    from docker.errors import APIError

    removed = 0
    for network in client.networks.list(filters={"label": HOME_LABEL}):
        with contextlib.suppress(APIError):  # the engine refuses as long as a container is in it
            network.reload()
            if not network.attrs["Containers"] and _age(network.attrs["Created"]) > STARTING:
                network.remove()
                removed += 1
    return removed


def _age(created: str) -> timedelta:
    """Return the time since the engine's time stamp, e.g. 2026-11-29T17:08:45.429995317Z, without its fractions."""
    return datetime.now(UTC) - datetime.fromisoformat(created[:19]).replace(tzinfo=UTC)
