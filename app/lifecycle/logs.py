"""A model's logs: of its build, and of its replica while it runs and after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from app.core.model import Model
from app.lifecycle.buildlog import BuildLog
from app.lifecycle.deployments import Deployments
from app.runtime.replica_log import log_path, read_log


async def model_log(
    deployments: Deployments, model: Model, kind: Literal["runtime", "build"], tail: int, follow: bool
) -> AsyncIterator[str]:
    """The last `tail` lines, then live ones if `follow`: a build's until no job works on the model any more."""
    folder = deployments.ledger.folder(model.model_id)
    replica = deployments.ledger.deployment(model.model_id).replica
    if kind == "build":
        lines = read_log(BuildLog(folder).path, tail, lambda: follow and deployments.busy(model.model_id))
    elif replica is not None:
        lines = deployments.road.target(model).logs(replica, folder, tail, follow)
    else:
        lines = read_log(log_path(folder), tail, lambda: False)
    async for line in lines:
        yield line
