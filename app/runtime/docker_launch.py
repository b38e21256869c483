"""Starts a planned container, in the network of this PRISM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from app.core.model import Replica, TargetName
from app.runtime.docker_container import HOME_LABEL, Plan, published_port

if TYPE_CHECKING:
    from docker import DockerClient


def run(client: DockerClient, plan: Plan) -> Replica:
    """Create and start it, and the network that it is in; nothing is left of one that does not start."""
    _ensure_network(client, plan)
    container = client.containers.create(**plan.options())
    try:
        container.start()
        inspection = cast(dict[str, Any], client.api.inspect_container(str(container.id)))
    except BaseException:
        container.remove(v=True, force=True)
        raise
    return Replica(
        model_id=plan.model.model_id,
        target=TargetName.DOCKER,
        id=str(container.id),
        token=plan.token,
        started_at=plan.started_at,
        socket=plan.socket,
        port=published_port(inspection),
        image=plan.image,
        pid=inspection["State"]["Pid"],
        form=plan.form.name,
    )


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
