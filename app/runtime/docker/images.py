"""Images: `prism_env_<lock hash>`, shared by all models of that lock, and on it `prism_model_<model_id>`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from msgspec import structs

from app.core.environment import Lock
from app.core.inspection import Inspection
from app.core.model import Artifact, ModelVersion, Variant, VariantName
from app.core.os_errors import problem_in, problem_of
from app.errors import BuildFailed, Conflict, NotFound, PrismError
from app.runtime.docker.context import (
    LAYOUT,
    LAYOUT_LABEL,
    model_dockerfile,
    place_of,
    write_environment_context,
    write_model_context,
)
from app.runtime.docker.engine import Engine
from app.runtime.docker.stored import BUILT_BY
from app.runtime.packages.install import install_for_container
from app.runtime.packages.uv import ERROR_LINES, SUPPORTED, find_interpreters
from app.runtime.target import Log

if TYPE_CHECKING:
    from docker import DockerClient

COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # the builder paints standard error red, in the middle of lines
QUIET = re.compile(r"^( ---> |Removing intermediate container|Step \d+/\d+ : LABEL )")
LOST_LAYER = re.compile(r"failed to get digest sha256:|No such image: sha256:|layer does not exist")
FORGET_SECONDS = 20.0
FORGET_POLL_SECONDS = 0.2
ASK_MINOR = "import sys; print('%d.%d' % sys.version_info[:2])"


def environment_image(lock: Lock) -> str:
    return f"prism_env_{lock.hash}"


def model_image(model_id: str) -> str:
    return f"prism_model_{model_id.lower()}"  # the engine takes no capitals


class Images:
    """The images of the engine that this PRISM builds and removes.

    base_image: may contain {version}, the Python minor. work_folder: has room for a model's build context. home: goes
    into a label of what is built.
    """

    def __init__(
        self, engine: Engine, base_image: str, work_folder: Path, build_timeout_seconds: float, home: str
    ) -> None:
        self._home = home
        self._engine = engine
        self._base_image = base_image
        self._work_folder = work_folder
        self._timeout_seconds = build_timeout_seconds
        self._building: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def base_image(self, python: str) -> str:
        return self._base_image.format(version=python)

    async def pythons(self) -> tuple[str, ...]:
        """Return Python minors: those whose base image is here, the gateway's own first; then those to be fetched."""
        if self.base_image("3.11") == self.base_image("3.12"):
            return (await self._only_python(),)
        own = list(await find_interpreters())[:1]
        order = [*own, *(minor for minor in reversed(SUPPORTED) if minor not in own)]
        here = [minor for minor in order if await self.exists(self.base_image(minor))]
        return (*here, *(minor for minor in order if minor not in here))

    async def _only_python(self) -> str:
        """Return the Python minor of a base image whose name does not say it."""
        image = self.base_image("")
        await self._fetch(image, lambda line: None)

        def run(client: DockerClient) -> bytes:
            command = ["python", "-c", ASK_MINOR]
            return client.containers.run(image, command, entrypoint="", network_mode="none", remove=True)

        return (await self._engine.ask(run, BuildFailed)).decode().strip()

    async def exists(self, image: str) -> bool:
        try:
            await self._engine.ask(lambda client: client.images.get(image))
        except NotFound:
            return False
        return True

    async def is_current(self, image: str) -> bool:
        """Return whether an image is there, and not laid out as by an earlier PRISM."""
        try:
            stored = await self._engine.ask(lambda client: client.images.get(image))
        except NotFound:
            return False
        return bool(stored.labels.get(LAYOUT_LABEL) == LAYOUT)

    async def build_environment(self, lock: Lock, log: Log) -> None:
        """Build an environment's image unless it is there. Waits for a build that has begun. Raises BuildFailed."""
        image = environment_image(lock)
        alone = self._building.setdefault(lock.hash, asyncio.Lock())
        async with alone:
            if await self.is_current(image):
                return
            base = self.base_image(lock.python)
            await self._fetch(base, log)
            began = time.monotonic()
            try:
                async with self._folder(image) as packages:
                    await install_for_container(lock, packages, log, self._timeout_seconds)
                    await self._build(image, lambda file: write_environment_context(file, lock, base, packages), log)
            except BaseException:
                await self._prune_failed_build(lock)
                raise
            log(f"Environment {lock.hash} built in {time.monotonic() - began:.1f} s.")

    async def build_model(self, model: ModelVersion, folder: Path, log: Log) -> str:
        """Write `<folder>/Dockerfile`, build a model's image and return its name. Raises BuildFailed."""
        if model.findings.lock is None or model.findings.inspection is None:
            raise BuildFailed(f"{model.ref} was never inspected and locked.", hint=f"Deploy {model.name} again.")
        image, lock = model_image(model.model_id), model.findings.lock
        has_code = (folder / "code").is_dir()
        dockerfile = model_dockerfile(model, environment_image(lock), image, has_code)
        try:
            (folder / "Dockerfile").write_text(dockerfile)
        except OSError as error:
            raise _unprepared(image, error) from error
        began = time.monotonic()
        for attempt in (1, 2):
            try:
                await self._build(image, lambda file: write_model_context(file, dockerfile, model, folder), log)
                break
            except BuildFailed:
                # Another PRISM on this engine removes an environment with the last model of its own that needs it.
                if attempt == 2 or await self.is_current(environment_image(lock)):
                    raise
            await self.build_environment(lock, log)
        log(f"Image {image} built in {time.monotonic() - began:.1f} s.")
        return image

    async def remove(self, model: ModelVersion, environment_in_use: bool) -> None:
        await self._remove(model_image(model.model_id), "prism.model_id")
        if model.findings.lock and not environment_in_use and not await self._is_built_upon(model.findings.lock):
            await self._remove(environment_image(model.findings.lock), "prism.environment")
            # A second PRISM that built it at the same moment took the name over, and left the first without one.
            nameless = {"dangling": True, "label": f"prism.environment={model.findings.lock.hash}"}
            with contextlib.suppress(Conflict):
                await self._engine.ask(lambda client: client.images.prune(filters=nameless), Conflict)

    async def _is_built_upon(self, lock: Lock) -> bool:
        """Return whether a model's image, also of another PRISM on the same engine, builds on this environment."""
        label = {"label": f"prism.model_environment={lock.hash}"}
        return bool(await self._engine.ask(lambda client: client.images.list(filters=label)))

    async def _remove(self, image: str, label: str) -> None:
        """Remove an image that carries our label. One that is gone, or that a foreign container uses, is fine."""

        def remove(client: DockerClient) -> None:
            if label in client.images.get(image).labels:
                client.images.remove(image)

        with contextlib.suppress(NotFound, Conflict):
            await self._engine.ask(remove, Conflict)

    async def _prune_failed_build(self, lock: Lock) -> None:
        """Remove the layers of a build that ended early. One that was given up still holds them for a moment."""
        label = f"prism.environment={lock.hash}"

        def prune(client: DockerClient) -> bool:
            client.images.prune(filters={"dangling": True, "label": label})
            containers = client.api.containers(all=True, filters={"label": label})
            return not containers and not client.images.list(all=True, filters={"label": label, "dangling": True})

        deadline = time.monotonic() + FORGET_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(PrismError):  # the build's own error says more
                if await self._engine.ask(prune, Conflict):
                    return
            await asyncio.sleep(FORGET_POLL_SECONDS)

    async def _fetch(self, image: str, log: Log) -> None:
        if await self.exists(image):
            return
        log(f"Pulling {image}")
        name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, ":", "latest")

        def begin(client: DockerClient) -> Any:
            return client.api.pull(name, tag=tag, stream=True, decode=True)

        try:
            async with asyncio.timeout(self._timeout_seconds), _pieces(self._engine, begin) as pieces:
                async for piece in pieces:
                    if "error" in piece:
                        raise BuildFailed(str(piece["error"]))
                    if not piece.get("progress") and piece.get("status"):
                        log(" ".join(filter(None, (piece.get("id"), piece["status"]))))
        except (BuildFailed, NotFound, TimeoutError) as error:
            why = error.detail if isinstance(error, BuildFailed | NotFound) else "it took too long."
            raise BuildFailed(
                f"The base image {image} is not on this machine and cannot be pulled: {why}",
                hint=f"Run `docker pull {image}`, or set PRISM_BASE_IMAGE to an image that exists.",
            ) from error

    async def _build(self, image: str, write_context: Callable[[io.BufferedIOBase], None], log: Log) -> None:
        """Build an image. If a layer that the engine took from its cache was removed meanwhile, begin once more.

        Images share layers, and the removal of another image may take one away between two steps of a build.
        """
        try:
            await self._build_once(image, write_context, log)
        except BuildFailed as error:
            if not LOST_LAYER.search(error.detail):
                raise
            log("A layer of another image was removed during the build, which begins again.")
            await self._build_once(image, write_context, log)

    async def _build_once(self, image: str, write_context: Callable[[io.BufferedIOBase], None], log: Log) -> None:
        try:
            with tempfile.TemporaryFile(dir=self._folder_for_contexts()) as context:
                await asyncio.to_thread(write_context, cast(io.BufferedIOBase, context))
                await self._run_build(image, context, log)
        except TimeoutError as error:
            raise BuildFailed(
                f"The image {image} was not built within {self._timeout_seconds:g} s.",
                hint="Check whether the engine is busy, or raise PRISM_BUILD_TIMEOUT_SECONDS.",
            ) from error
        except OSError as error:
            raise _unprepared(image, error) from error

    @contextlib.asynccontextmanager
    async def _folder(self, image: str) -> AsyncIterator[Path]:
        """Make an empty folder for the time of a build."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=".packages-", dir=self._folder_for_contexts()))
        except OSError as error:
            raise _unprepared(image, error) from error
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _folder_for_contexts(self) -> Path:
        self._work_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._work_folder

    async def _run_build(self, image: str, context: Any, log: Log) -> None:
        def begin(client: DockerClient) -> Any:
            return client.api.build(
                fileobj=context,
                custom_context=True,
                tag=image,
                labels={BUILT_BY: self._home},
                rm=True,
                forcerm=True,
                decode=True,
                network_mode="none",  # it only copies and compiles
            )

        output: list[str] = []
        async with asyncio.timeout(self._timeout_seconds), _pieces(self._engine, begin) as pieces:
            unfinished = ""
            async for piece in pieces:
                *lines, unfinished = (unfinished + str(piece.get("stream", ""))).split("\n")
                if "error" in piece:
                    lines.append(unfinished)
                for line in lines:
                    line = COLOUR.sub("", line).rstrip()
                    if line and not QUIET.match(line):
                        output.append(line)
                        log(line)
                if "error" in piece:
                    raise problem_in(str(piece["error"])) or BuildFailed(
                        f"The image {image} could not be built: {piece['error']}",
                        hint="The build log shows what the engine did before that; `prism doctor` checks the engine.",
                        log_lines=output[-ERROR_LINES:],
                    )


def _unprepared(image: str, error: OSError) -> PrismError:
    return problem_of(error) or BuildFailed(
        f"The build of {image} could not be prepared: {error}.",
        hint="Free some disk space, or set PRISM_RUN_ROOT to a folder that can be written to.",
    )


@contextlib.asynccontextmanager
async def _pieces(engine: Engine, begin: Callable[[DockerClient], Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Open what the engine says during a build or a pull. Leaving the block ends it."""
    async with contextlib.aclosing(cast(Any, engine.stream(begin, BuildFailed))) as pieces:
        yield pieces


def variant_image(model: ModelVersion, variant: Variant) -> ModelVersion:
    """Return a model whose image holds this variant of the given one. That image has a name of its own."""
    if variant.name is VariantName.ORIGINAL:
        return model
    inspection = model.findings.inspection or Inspection(variant.format)
    return ModelVersion(
        structs.replace(model.identity, model_id=f"{model.model_id}_{variant.name}"),
        structs.replace(model.spec, artifact=Artifact(place_of(variant), "", 0)),
        structs.replace(
            model.findings, lock=variant.lock, inspection=structs.replace(inspection, format=variant.format)
        ),
    )


def write_build_folder(variant: Variant, folder: Path, place: Path) -> None:
    """Lay out in `place` what the image of a variant is built from, as the original lies in the model's folder."""
    file = place / "artifact" / place_of(variant)
    file.parent.mkdir(parents=True)
    os.link(folder / variant.file, file)
    if variant.code and (folder / "code").is_dir():
        shutil.copytree(folder / "code", place / "code")
