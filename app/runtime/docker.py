"""The Docker target: each replica is a container that holds no rights, on an image built for its model.

    prism_env_<lock hash>          image, shared by all models with that lock
    prism_model_<model_id>         image, on the one above
    prism_<model_id>_<random>      container, published on a port of 127.0.0.1
    prism_<home>                   bridge network of this PRISM, whose containers cannot speak with each other
    <sockets>/<random>/model.sock  its Unix socket, where the engine shares this machine

What a later gateway must know of a container is in the container's labels.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
from msgspec import structs

from app.core.environment import Lock
from app.core.inspection import Inspection
from app.core.model import Artifact, Form, FormName, Limits, Model, Replica, TargetName
from app.errors import Conflict, NotFound, PrismError, StartFailed
from app.runtime import process_tree
from app.runtime.container_log import ContainerPlace, Stamped, StampedLines, behind, keep_log, kept_log, place_in, short
from app.runtime.docker_container import (
    HOME_LABEL,
    MODEL_LABEL,
    SOCKET_NAME,
    Plan,
    published_port,
    replica_of,
    runtime_user,
    state_of,
)
from app.runtime.docker_context import place_of
from app.runtime.docker_engine import Engine, engine_answers
from app.runtime.docker_images import Images, model_image
from app.runtime.gpu import refusal
from app.runtime.log_reader import LogLine
from app.runtime.replica_log import log_path
from app.runtime.target import Availability, Log, ReplicaState

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["DockerTarget", "engine_answers"]

MAX_SOCKET_PATH_BYTES = 100  # 108 on Linux, with the final zero
SAVED_LINES = 5000


class DockerTarget:
    """Replicas as containers that outlive the gateway.

    home: label that tells this PRISM's containers from another's. run_folder: has room for build contexts.
    sockets: a short path. base_image: of environments, with {version} for the Python minor.
    """

    name = TargetName.DOCKER

    def __init__(
        self, *, home: str, run_folder: Path, sockets: Path, base_image: str, build_timeout_seconds: float
    ) -> None:
        self._home = home
        self._sockets = sockets
        self._engine = Engine()
        self._images = Images(self._engine, base_image, run_folder, build_timeout_seconds)
        # The network comes with the first container and goes with the last; not between the two steps of a start.
        self._networking = asyncio.Lock()

    @property
    def _network(self) -> str:
        return f"prism_{self._home}"

    async def availability(self) -> Availability:
        try:
            version = await self._engine.ask(lambda client: client.version())
        except PrismError as error:
            return Availability(False, error.detail, error.hint)
        return Availability(True, f"Docker {version['Version']} ({version['Os']}/{version['Arch']})")

    async def pythons(self) -> tuple[str, ...]:
        return await self._images.pythons()

    async def build_environment(self, lock: Lock, log: Log) -> None:
        await self._images.build_environment(lock, log)

    async def build_model(self, model: Model, folder: Path, log: Log, form: Form | None = None) -> str:
        form = form or model.form
        if form is None or form.name is FormName.ORIGINAL:
            return await self._images.build_model(model, folder, log)
        with tempfile.TemporaryDirectory(prefix=".image-", dir=folder) as place:
            await asyncio.to_thread(_lay_out, form, folder, Path(place))
            return await self._images.build_model(_as_imaged(model, form), Path(place), log)

    async def start(self, model: Model, folder: Path, limits: Limits, form: Form | None = None) -> Replica:
        form = form or model.form
        image = model_image(_as_imaged(model, form).model_id) if form else ""
        if form is None or not await self._images.exists(image):
            raise StartFailed(f"There is no image {image}.", hint=f"Deploy {model.name} again.")
        await self._sweep(model.model_id)
        token = secrets.token_hex(4)
        plan = Plan(
            name=f"prism_{model.model_id}_{token}",
            home=self._home,
            network=self._network,
            image=image,
            model=model,
            form=form,
            folder=folder,
            limits=limits,
            sockets=await self._socket_folder(token),
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
            without_gpu = refusal(plan.model.ref, words) if plan.model.execution.gpus else None
            return without_gpu or StartFailed(
                f"The container of {plan.model.ref} could not be started: {words}",
                hint="See `prism doctor` for the engine, disk space and limits.",
            )

        try:
            async with self._networking:
                return await self._engine.ask(lambda client: _run(client, plan), refused)
        except PrismError as error:
            self._remove_socket(plan.socket)
            raise refused(error.detail) if isinstance(error, NotFound) else error from error

    async def _socket_folder(self, token: str) -> Path | None:
        """For one replica: its user may write to it and, but for root, nobody else may look into it."""
        folder = self._sockets / token
        if len(os.fsencode(folder / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
            return None
        if not await self._engine.shares_this_machine():
            return None
        try:
            self._sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = self._sockets.lstat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise PermissionError(errno.EPERM, "it is open to other users")
            folder.mkdir(mode=0o700)
            if os.getuid() == 0:
                os.chown(folder, *runtime_user())
        except OSError as error:
            raise StartFailed(
                f"The sockets of replicas cannot be kept in {self._sockets}: {error.strerror}.",
                hint=f"Remove {self._sockets}, or make it yours with mode 0700.",
            ) from error
        return folder

    def _remove_socket(self, socket: str) -> None:
        """And the folder that was made for it."""
        if socket and Path(socket).parent.parent == self._sockets:
            shutil.rmtree(Path(socket).parent, ignore_errors=True)

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
        await asyncio.to_thread(self._remove_socket, replica.socket)
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
            said = client.api.logs(identifier, tail=SAVED_LINES, timestamps=True, stream=True, follow=False)
            folder = Path(container["Config"]["Labels"].get("prism.folder", ""))
            if folder.is_absolute() and folder.is_dir():
                with contextlib.suppress(OSError):  # a log that cannot be kept does not keep the container
                    keep_log(log_path(folder), identifier, said)
            client.api.remove_container(identifier, v=True, force=True)

        with contextlib.suppress(NotFound, Conflict):
            await self._engine.ask(discard, Conflict)

    async def _remove_empty_network(self) -> None:
        """The engine itself refuses while a container is in it."""
        with contextlib.suppress(NotFound, Conflict):
            async with self._networking:
                await self._engine.ask(lambda client: client.api.remove_network(self._network), Conflict)

    async def logs(
        self, replica: Replica, folder: Path, tail: int, follow: bool, after: str = ""
    ) -> AsyncIterator[LogLine]:
        place = ContainerPlace.parse(after)
        if after and (place is None or place.container != short(replica.id)):
            async for line in self._earlier_log(replica, folder, follow, after):
                after = line.id
                yield line
            place = place_in(log_path(folder), replica.id, after)
        async for line in self._log_of(replica.id, folder, tail, follow, place):
            yield line

    async def _earlier_log(self, replica: Replica, folder: Path, follow: bool, after: str) -> AsyncIterator[LogLine]:
        """What came behind a place in the log of a container before this one, which may be about to end."""
        place = ContainerPlace.parse(after)
        try:
            if place is not None and await self._is_of(place.container, replica.model_id):
                async for line in self._log_of(place.container, folder, 0, follow, place):
                    yield line
                return
        except NotFound:
            pass
        async for line in kept_log(log_path(folder), 0, lambda: False, after):
            yield line

    async def _is_of(self, container: str, model_id: str) -> bool:
        """Whether it is that model's: a place comes from outside, and could name any container of this engine."""
        inspection = await self._engine.ask(lambda client: client.api.inspect_container(container))
        labels = inspection["Config"]["Labels"] or {}
        return bool(labels.get(HOME_LABEL) == self._home and labels.get(MODEL_LABEL) == model_id)

    async def _log_of(
        self, container: str, folder: Path, tail: int, follow: bool, place: ContainerPlace | None
    ) -> AsyncIterator[LogLine]:
        """What is there, what comes, and what the engine did not send before it ended; else what was kept of it."""
        is_first = place is None
        try:
            for is_live in (False, True, False) if follow else (False,):
                found = self._stamped(container, place, max(1, tail) if follow else tail, is_live)
                async for line in behind(place, found):
                    place = ContainerPlace.parse(line.id)
                    if tail or not is_first:
                        yield line
                if is_first and follow:
                    place = place or ContainerPlace(short(container))
                    yield LogLine("", str(place), "place")
                is_first = False
        except NotFound:
            async for line in kept_log(log_path(folder), tail, lambda: False, str(place or "")):
                yield line

    async def _stamped(
        self, container: str, place: ContainerPlace | None, tail: int, is_live: bool
    ) -> AsyncIterator[Stamped]:
        def begin(client: DockerClient) -> Any:
            if place is None:
                return client.api.logs(container, stream=True, follow=is_live, timestamps=True, tail=tail)
            since = place.since if place.stamp else None
            return client.api.logs(container, stream=True, follow=is_live, timestamps=True, since=since)

        lines = StampedLines(container)
        async with contextlib.aclosing(cast(Any, self._engine.stream(begin))) as messages:
            async for message in messages:
                for line in lines.add(message):
                    yield line
        if not is_live:
            for line in lines.rest():
                yield line

    async def remove(self, model: Model, environment_in_use: bool) -> None:
        await self._sweep(model.model_id)
        await self._images.remove(model, environment_in_use)

    async def remove_form(self, model: Model, form: Form, environment_in_use: bool) -> None:
        await self._images.remove(_as_imaged(model, form), environment_in_use)

    async def _sweep(self, model_id: str) -> None:
        """Containers of the model that ended without a stop(), as when the gateway was killed."""
        for inspection in await self._containers(model_id):
            if not inspection["State"]["Running"] and inspection["State"]["Status"] != "created":
                await self._discard(inspection["Id"])
                self._remove_socket(inspection["Config"]["Labels"].get("prism.socket", ""))

    async def replicas(self) -> tuple[Replica, ...]:
        living = [one for one in await self._containers() if one["State"]["Running"]]
        return tuple(replica for one in living if (replica := replica_of(one)))

    async def _containers(self, model_id: str = "") -> list[dict[str, Any]]:
        """Inspections of this PRISM's containers, also of those that have ended."""
        labels = [f"{HOME_LABEL}={self._home}", *([f"{MODEL_LABEL}={model_id}"] if model_id else [])]
        if await self._engine.has_none(labels):
            return []

        def look(client: DockerClient) -> list[dict[str, Any]]:
            from docker.errors import NotFound as Absent

            found = []
            for one in client.api.containers(all=True, filters={"label": labels}):
                with contextlib.suppress(Absent):  # removed since the list was made
                    found.append(cast(dict[str, Any], client.api.inspect_container(one["Id"])))
            return found

        return await self._engine.ask(look)


def _as_imaged(model: Model, form: Form) -> Model:
    """The model whose image holds another form of it; that image has a name of its own."""
    if form.name is FormName.ORIGINAL:
        return model
    return structs.replace(
        model,
        model_id=f"{model.model_id}_{form.name}",
        lock=form.lock,
        artifact=Artifact(place_of(form), "", 0),
        inspection=structs.replace(model.inspection or Inspection(form.format), format=form.format),
    )


def _lay_out(form: Form, folder: Path, place: Path) -> None:
    """What the image of a form is built from, as the original's lies in the model's folder."""
    file = place / "artifact" / place_of(form)
    file.parent.mkdir(parents=True)
    os.link(folder / form.file, file)
    if form.code and (folder / "code").is_dir():
        shutil.copytree(folder / "code", place / "code")


def _run(client: DockerClient, plan: Plan) -> Replica:
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


def _observe(pid: int) -> ReplicaState | None:
    """None if it ended just now."""
    try:
        return process_tree.observe(psutil.Process(pid))
    except psutil.Error:
        return None


def _continue(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        process_tree.send(process_tree.tree(psutil.Process(pid)), signal.SIGCONT)
