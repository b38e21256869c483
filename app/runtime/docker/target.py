"""The Docker target: each replica is a container that holds no rights, on an image built for its model.

    prism_env_<lock hash>          image, shared by all models with that lock
    prism_model_<model_id>         image, on the one above
    prism_<model_id>_<random>      container, published on a port of 127.0.0.1
    prism_<home>                   bridge network of this PRISM, whose containers cannot speak with each other

What a later gateway must know of a container is in the container's labels.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil

from app.core.environment import Lock
from app.core.model import Limits, ModelVersion, Replica, Variant, VariantName
from app.core.os_errors import problem_in
from app.errors import Conflict, NotFound, PrismError, StartFailed, TargetUnavailable
from app.runtime.docker.container import DOCKER, HOME_LABEL, MODEL_LABEL, Plan, replica_of, state_of
from app.runtime.docker.engine import Engine, engine_answers
from app.runtime.docker.gpu import refusal
from app.runtime.docker.images import Images, model_image, variant_image, write_build_folder
from app.runtime.docker.logs import ContainerLogs
from app.runtime.docker.network import ensure_network
from app.runtime.docker.sockets import reached
from app.runtime.docker.stored import remove_image, stored_images
from app.runtime.logs.files import log_path
from app.runtime.logs.kept import keep_log
from app.runtime.logs.reader import LogLine
from app.runtime.process import tree as process_tree
from app.runtime.target import Log, ReplicaState, StoredImage

if TYPE_CHECKING:
    from docker import DockerClient

SAVED_LINES = 5000


class DockerTarget:
    """Replicas as containers that outlive the gateway.

    home: label that tells this PRISM's containers from another's. run_folder: has room for build contexts.
    base_image: of environments, with {version} for the Python minor.
    """

    name = DOCKER
    replica_noun = "container"
    platform: str | None = "linux"
    offers_gpus = True

    def __init__(self, *, home: str, run_folder: Path, base_image: str, build_timeout_seconds: float) -> None:
        self._home = home
        self._engine = Engine()
        self._logs = ContainerLogs(self._engine, home)
        self._images = Images(self._engine, base_image, run_folder, build_timeout_seconds, home)
        # The network comes with the first container and goes with the last; not between the two steps of a start.
        self._networking = asyncio.Lock()

    @property
    def _network(self) -> str:
        return f"prism_{self._home}"

    def require_available(self) -> None:
        if not engine_answers():
            raise TargetUnavailable(
                "No Docker engine answers.", hint="Start Docker, or set PRISM_TARGET=process, which needs nothing."
            )

    async def pythons(self) -> tuple[str, ...]:
        return await self._images.pythons()

    async def build_environment(self, lock: Lock, log: Log) -> None:
        await self._images.build_environment(lock, log)

    async def build_model(self, model: ModelVersion, folder: Path, log: Log, variant: Variant | None = None) -> str:
        variant = variant or model.variant
        if variant is None or variant.name is VariantName.ORIGINAL:
            return await self._images.build_model(model, folder, log)
        with tempfile.TemporaryDirectory(prefix=".image-", dir=folder) as place:
            await asyncio.to_thread(write_build_folder, variant, folder, Path(place))
            return await self._images.build_model(variant_image(model, variant), Path(place), log)

    async def is_built(self, model: ModelVersion, variant: Variant) -> bool:
        return await self._images.is_current(model_image(variant_image(model, variant).model_id))

    async def start(self, model: ModelVersion, folder: Path, limits: Limits, variant: Variant | None = None) -> Replica:
        variant = variant or model.variant
        image = model_image(variant_image(model, variant).model_id) if variant else ""
        if variant is None or not await self._images.is_current(image):
            raise StartFailed(f"There is no image {image}.", hint=f"Deploy {model.name} again.")
        await self._sweep(model.model_id)
        token = secrets.token_hex(4)
        plan = Plan(
            name=f"prism_{model.model_id}_{token}",
            home=self._home,
            network=self._network,
            image=image,
            model=model,
            variant=variant,
            folder=folder,
            limits=limits,
            has_socket=await self._engine.shares_this_machine(),
            token=secrets.token_urlsafe(32),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

        launch = asyncio.ensure_future(self._launch(plan))
        try:
            return await asyncio.shield(launch)
        except asyncio.CancelledError:
            # The engine may be about to start it all the same, and nobody would know it.
            with contextlib.suppress(PrismError):
                await self.stop(await launch, 0)
            raise

    async def _launch(self, plan: Plan) -> Replica:
        def refused(words: str) -> PrismError:
            without_gpu = refusal(plan.model.ref, words) if plan.model.spec.execution.gpus else None
            return (
                without_gpu
                or problem_in(words)
                or StartFailed(
                    f"The container of {plan.model.ref} could not be started: {words}",
                    hint="Run `prism doctor` to check the engine, disk space and limits.",
                )
            )

        try:
            async with self._networking:
                return await self._engine.ask(lambda client: _run(client, plan), refused)
        except PrismError as error:
            with contextlib.suppress(TargetUnavailable):
                await self._remove_empty_network()
            raise refused(error.detail) if isinstance(error, NotFound) else error from error

    async def state(self, replica: Replica) -> ReplicaState:
        try:
            inspection = await self._inspect(replica)
        except NotFound:
            return ReplicaState(running=False, detail="its container is gone")
        state = state_of(inspection)
        if not state.running or not await self._engine.shares_this_machine():
            return state
        seen = await asyncio.to_thread(_observe, inspection["State"]["Pid"])
        if seen is None:
            return state
        return ReplicaState(
            running=True,
            frozen=state.frozen or seen.frozen,
            detail=seen.detail if seen.frozen and not state.frozen else state.detail,
            rss_bytes=seen.rss_bytes,
            cpu_seconds=seen.cpu_seconds,
        )

    async def _inspect(self, replica: Replica) -> dict[str, Any]:
        return await self._engine.ask(lambda client: cast(dict[str, Any], client.api.inspect_container(replica.id)))

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        with contextlib.suppress(NotFound):
            inspection = await self._inspect(replica)
            if (inspection["Config"]["Labels"] or {}).get(HOME_LABEL) != self._home:
                return  # an id that another container got is none of ours
            if inspection["State"]["Running"]:
                await self._end(inspection, grace_seconds)
            await self._discard(replica.id)
        await self._remove_empty_network()

    async def _end(self, inspection: dict[str, Any], grace_seconds: float) -> None:
        identifier, pid = inspection["Id"], inspection["State"]["Pid"]
        if grace_seconds > 0 and await self._engine.shares_this_machine():
            # A stopped process would not see the signal to end.
            await asyncio.to_thread(_continue, pid)

        def end(client: DockerClient) -> None:
            if inspection["State"]["Paused"]:
                client.api.unpause(identifier)
            if grace_seconds > 0:
                client.api.stop(identifier, timeout=math.ceil(grace_seconds))
            else:
                client.api.kill(identifier)

        with contextlib.suppress(Conflict):  # it ended by itself meanwhile
            await self._engine.ask(end, Conflict)

    async def _discard(self, identifier: str) -> None:
        """Keep what it said last, then remove it. Fine if somebody else removes it already."""

        def discard(client: DockerClient) -> None:
            container = client.api.inspect_container(identifier)
            messages = client.api.logs(identifier, tail=SAVED_LINES, timestamps=True, stream=True, follow=False)
            folder = Path(container["Config"]["Labels"].get("prism.folder", ""))
            if folder.is_absolute() and folder.is_dir():
                with contextlib.suppress(OSError):  # a log that cannot be kept does not keep the container
                    keep_log(log_path(folder), identifier, messages)
            client.api.remove_container(identifier, v=True, force=True)

        with contextlib.suppress(NotFound, Conflict):
            await self._engine.ask(discard, Conflict)

    async def _remove_empty_network(self) -> None:
        """Remove the network unless a container is in it: then the engine itself refuses."""
        with contextlib.suppress(NotFound, Conflict):
            async with self._networking:
                await self._engine.ask(lambda client: client.api.remove_network(self._network), Conflict)

    def logs(self, replica: Replica, folder: Path, tail: int, follow: bool, after: str = "") -> AsyncIterator[LogLine]:
        return self._logs.lines(replica, folder, tail, follow, after)

    async def remove(self, model: ModelVersion, environment_in_use: bool) -> None:
        await self._sweep(model.model_id)
        await self._remove_empty_network()
        await self._images.remove(model, environment_in_use)

    def describe_removal(self, model: ModelVersion, replicas: Sequence[Replica]) -> list[str]:
        images = [f"image {model_image(model.model_id)}"] if model.findings.lock is not None else []
        return [f"container {replica.id}" for replica in replicas] + images

    async def remove_variant(self, model: ModelVersion, variant: Variant, environment_in_use: bool) -> None:
        await self._images.remove(variant_image(model, variant), environment_in_use)

    async def images(self) -> tuple[StoredImage, ...]:
        return await stored_images(self._engine, self._home)

    async def remove_image(self, id: str) -> bool:
        return await remove_image(self._engine, id)

    async def _sweep(self, model_id: str) -> None:
        """Remove containers of the model that ended without a stop(), as when the gateway was killed."""
        for inspection in await self._containers(model_id):
            if not inspection["State"]["Running"] and inspection["State"]["Status"] != "created":
                await self._discard(inspection["Id"])

    async def replicas(self) -> tuple[Replica, ...]:
        living = [inspection for inspection in await self._containers() if inspection["State"]["Running"]]
        return tuple(reached(replica) for inspection in living if (replica := replica_of(inspection)))

    async def _containers(self, model_id: str = "") -> list[dict[str, Any]]:
        """Return the inspections of this PRISM's containers, also of those that have ended."""
        labels = [f"{HOME_LABEL}={self._home}", *([f"{MODEL_LABEL}={model_id}"] if model_id else [])]
        if await self._engine.has_none(labels):
            return []

        def look(client: DockerClient) -> list[dict[str, Any]]:
            from docker.errors import NotFound as Absent

            inspections = []
            for summary in client.api.containers(all=True, filters={"label": labels}):
                with contextlib.suppress(Absent):  # removed since the list was made
                    inspections.append(cast(dict[str, Any], client.api.inspect_container(summary["Id"])))
            return inspections

        return await self._engine.ask(look)


def _observe(pid: int) -> ReplicaState | None:
    """Return what the system says of a container's process; None if it ended just now."""
    try:
        return process_tree.observe(psutil.Process(pid))
    except psutil.Error:
        return None


def _continue(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        process_tree.send(process_tree.tree(psutil.Process(pid)), signal.SIGCONT)


def _run(client: DockerClient, plan: Plan) -> Replica:
    """Create and start a container, and the network that it is in. Nothing is left of one that does not start."""
    ensure_network(client, plan.network, plan.home)
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
