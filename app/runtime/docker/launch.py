"""Starts a planned container, in the network of this PRISM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from app.core.model import Replica
from app.runtime.docker.container import HOME_LABEL, Plan, replica_of
from app.runtime.docker.sockets import reached

if TYPE_CHECKING:
    from docker import DockerClient


def run(client: DockerClient, plan: Plan) -> Replica:
    """Create and start a container, and the network that it is in. Nothing is left of one that does not start."""
    _ensure_network(client, plan)
    container = client.containers.create(**plan.options())
    try:
        container.start()
        inspection = cast(dict[str, Any], client.api.inspect_container(str(container.id)))
    except BaseException:
        container.remove(v=True, force=True)
        raise
    replica = replica_of(inspection)
    assert replica is not None  # the labels are those of the plan
    return reached(replica)


def _ensure_network(client: DockerClient, plan: Plan) -> None:
    if client.networks.list(names=[f"^{plan.network}$"]):
        return
    client.networks.create(
        plan.network,
        driver="bridge",
        labels={HOME_LABEL: plan.home},
        options={
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.enable_ip_masquerade": "false",
        },
    )
