"""A model's logs: of its build, and of its replicas, one after another, while they run and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Literal, cast

from app.core.model import Deployment, Model, Status
from app.errors import NotFound
from app.lifecycle.buildlog import BuildLog
from app.lifecycle.deployments import Deployments
from app.runtime.container_log import kept_log
from app.runtime.log_reader import LogLine
from app.runtime.replica_log import POLL_SECONDS, log_path, read_log

LogKind = Literal["runtime", "build"]
ALL_LINES = 100_000


def model_log(
    deployments: Deployments, model: Model, kind: LogKind, tail: int, follow: bool, after: str = ""
) -> AsyncIterator[LogLine]:
    """The last `tail` lines, or all behind the line `after`; then live ones if `follow`.

    A build's until no job works on the model any more. A model's until it is stopped, has failed or is deleted:
    where its replica is replaced, the next one's follow.
    """
    if kind == "runtime":
        return _runtime_log(deployments, model, tail, follow, after)
    path = BuildLog(deployments.ledger.folder(model.model_id)).path
    return read_log(path, tail, lambda: follow and deployments.busy(model.model_id), after)


async def _runtime_log(
    deployments: Deployments, model: Model, tail: int, follow: bool, after: str
) -> AsyncIterator[LogLine]:
    model_id = model.model_id
    folder = deployments.ledger.folder(model_id)
    deployment = deployment_of(deployments, model_id)
    while deployment is not None:
        replica = deployment.replica
        if replica is not None:
            lines = deployments.road.target(model).logs(replica, folder, tail, follow, after)
        else:
            lines = kept_log(log_path(folder), tail, _until_it_runs(deployments, model_id, follow), after)
        async with aclosing(cast(Any, lines)) as found:
            async for line in found:
                after = line.id
                yield line
        if not follow:
            return
        deployment = await _next(deployments, deployment)
        tail = tail if after else ALL_LINES


def _until_it_runs(deployments: Deployments, model_id: str, follow: bool) -> Callable[[], bool]:
    def grows() -> bool:
        deployment = deployment_of(deployments, model_id)
        return follow and deployment is not None and deployment.replica is None and _comes(deployments, deployment)

    return grows


async def _next(deployments: Deployments, before: Deployment) -> Deployment | None:
    """Waits for another replica than the one whose log has ended, or for one to be started; None if none will come."""
    while True:
        deployment = deployment_of(deployments, before.model_id)
        if deployment is None or (deployment.replica is None and not _comes(deployments, deployment)):
            return None
        if deployment.replica != before.replica:
            return deployment
        if not _comes(deployments, deployment):
            return None
        await asyncio.sleep(POLL_SECONDS)


def _comes(deployments: Deployments, deployment: Deployment) -> bool:
    """Whether the model is on its way to life, or meant to live."""
    is_meant = deployment.wanted and deployment.status is not Status.FAILED
    return is_meant or deployments.busy(deployment.model_id)


def deployment_of(deployments: Deployments, model_id: str) -> Deployment | None:
    """None once it is deleted."""
    try:
        return deployments.ledger.deployment(model_id)
    except NotFound:
        return None
