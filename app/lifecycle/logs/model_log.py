"""The logs of a model: of its build, and of its replicas, one after another, while they run and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Literal, cast

from app.core.model import Deployment, ModelVersion, Replica, Status
from app.errors import NotFound
from app.lifecycle.deployments import Deployments
from app.lifecycle.logs.build_log import BuildLog
from app.lifecycle.logs.merged import merged_log
from app.lifecycle.start import REPLICA_LOGS, log_folder
from app.runtime.logs.files import POLL_SECONDS, log_path, read_log
from app.runtime.logs.kept import kept_log
from app.runtime.logs.reader import LogLine

LogKind = Literal["runtime", "build"]
ALL_LINES = 100_000


def model_log(
    deployments: Deployments,
    model: ModelVersion,
    kind: LogKind,
    tail: int,
    follow: bool,
    after: str = "",
    replica: int | None = None,
) -> AsyncIterator[LogLine]:
    """Yield the last `tail` lines, or all lines after the line `after`; then live ones if `follow`.

    The log of a build ends once no job works on the model any more. The log of a model ends once it is stopped, has
    failed or is deleted: where a replica is replaced, the lines of the next one follow.
    replica: the number of the replica to read; None for all, each line with its replica's number where there are
    several.
    """
    if kind == "runtime":
        if replica is not None:
            return _replica_log(deployments, model, replica, tail, follow, after)
        return _runtime_log(deployments, model, tail, follow, after)
    path = BuildLog(deployments.state.folder(model.model_id)).path
    return read_log(path, tail, lambda: follow and deployments.busy(model.model_id), after)


def _runtime_log(
    deployments: Deployments, model: ModelVersion, tail: int, follow: bool, after: str
) -> AsyncIterator[LogLine]:
    def numbers() -> set[int]:
        return numbers_with_logs(deployments, model)

    def read(number: int, place: str, is_new: bool) -> AsyncIterator[LogLine]:
        """Read one replica's log.

        is_new: whether it appeared while the logs were read, or since the reader's last visit.
        """
        return _replica_log(deployments, model, number, ALL_LINES if is_new else tail, follow, place)

    return merged_log(numbers, read, follow, after, POLL_SECONDS)


def numbers_with_logs(deployments: Deployments, model: ModelVersion) -> set[int]:
    """Return the numbers of the replicas that run or are about to, and of those that left a log."""
    folder = deployments.state.folder(model.model_id) / REPLICA_LOGS
    kept = {int(path.name) for path in folder.glob("*") if path.name.isdigit()}
    deployment = deployment_of(deployments, model.model_id)
    return {1} | kept | {replica.number for replica in (deployment.replicas if deployment else ())}


async def _replica_log(
    deployments: Deployments, model: ModelVersion, number: int, tail: int, follow: bool, after: str
) -> AsyncIterator[LogLine]:
    model_id = model.model_id
    folder = deployments.state.folder(model_id) / log_folder(number)
    deployment = deployment_of(deployments, model_id)
    while deployment is not None:
        replica = _numbered(deployment, number)
        if replica is not None:
            lines = deployments.pipeline.target(model).logs(replica, folder, tail, follow, after)
        else:
            lines = kept_log(log_path(folder), tail, _until_it_runs(deployments, model_id, number, follow), after)
        async with aclosing(cast(Any, lines)) as entries:
            async for line in entries:
                after = line.id
                yield line
        if not follow:
            return
        deployment = await _next(deployments, deployment, number)
        tail = tail if after else ALL_LINES


def _numbered(deployment: Deployment, number: int) -> Replica | None:
    return next((replica for replica in deployment.replicas if replica.number == number), None)


def _until_it_runs(deployments: Deployments, model_id: str, number: int, follow: bool) -> Callable[[], bool]:
    def grows() -> bool:
        deployment = deployment_of(deployments, model_id)
        return (
            follow
            and deployment is not None
            and _numbered(deployment, number) is None
            and _comes(deployments, deployment)
        )

    return grows


async def _next(deployments: Deployments, before: Deployment, number: int) -> Deployment | None:
    """Wait for another replica than the one whose log has ended, or for one to be started; None if none will come."""
    while True:
        deployment = deployment_of(deployments, before.model_id)
        if deployment is None:
            return None
        replica, comes = _numbered(deployment, number), _comes(deployments, deployment)
        if replica is None and not comes:
            return None
        if replica != _numbered(before, number):
            return deployment
        if not comes:
            return None
        await asyncio.sleep(POLL_SECONDS)


def _comes(deployments: Deployments, deployment: Deployment) -> bool:
    """Return whether the model is being started, or is meant to run."""
    is_meant = deployment.wanted and deployment.status is not Status.FAILED
    return is_meant or deployments.busy(deployment.model_id)


def deployment_of(deployments: Deployments, model_id: str) -> Deployment | None:
    """Return the deployment of a model; None once it is deleted."""
    try:
        return deployments.state.deployment(model_id)
    except NotFound:
        return None
