"""Serves what lies in the models folder, and follows it: an entry added, changed or removed takes effect by itself.

An entry is a folder, and its name is the model's. Each new content of it becomes a version, made by
`Deployments.accept` like an upload: the earlier version serves until the new one can. A broken entry is reported. It
changes nothing for the other entries, nor for its own version that serves.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

import structlog
from msgspec import Struct

from app.core.contents import FOLDER
from app.core.model import ModelVersion, Status
from app.core.os_errors import log_fields, problem_of
from app.core.route_table import is_serving
from app.errors import BadInput, Conflict, NotFound, PrismError, StorageFailed, TooManyOpenFiles
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.receive import Upload, discard
from app.lifecycle.intake.register import model_name
from app.lifecycle.models_folder.snapshot import FolderSnapshot, copy_entry, take_snapshot, unserved_files
from app.lifecycle.models_folder.versions import EntryVersions
from app.lifecycle.state import utc_now

log = structlog.get_logger(__name__)

SETTLE_SECONDS: Final = 1.0
"""How long an entry must be unchanged before it is deployed: longer than a copy takes between two files."""

UNDER_WAY_MAX: Final = 2
"""How many entries are built and started at a time, so that a full folder leaves the processor to live models."""


class _Entry(Struct):
    """The state of an entry, as the watcher remembers it.

    seen: the last snapshot. seen_at: when its content was first seen. taken: the snapshot that was acted on.
    problem: why that failed. gone_at: since when the entry is missing.
    """

    seen: FolderSnapshot | None = None
    seen_at: float = 0.0
    taken: FolderSnapshot | None = None
    model_id: str = ""
    problem: dict[str, Any] | None = None
    gone_at: float | None = None


class ModelsFolder:
    """The watcher of the models folder. path: None where there is none; then nothing is done.

    clock: returns monotonic seconds. wall_clock: returns seconds since 1970.
    """

    def __init__(
        self,
        deployments: Deployments,
        path: Path | None,
        interval_seconds: float,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self.path = path
        self.problem = ""
        self.unserved: list[str] = []
        self.looked_at = ""
        self._deployments = deployments
        self._state = deployments.state
        self._versions = EntryVersions(deployments)
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._entries: dict[str, _Entry] = {}
        self._loop: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self.path is not None:
            self._loop = asyncio.create_task(self._run(), name="models folder")

    async def end(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.cycle()
            except Exception:  # whatever one cycle meets, the next is tried
                log.exception("a scan of the models folder failed")
            await asyncio.sleep(self._interval_seconds)

    async def cycle(self) -> None:
        """Take a snapshot of the folder, and act on what has changed."""
        assert self.path is not None
        try:
            snapshots = await asyncio.to_thread(take_snapshot, self.path)
            self.unserved = await asyncio.to_thread(unserved_files, self.path)
        except OSError as error:  # it is missing or not mounted, which is no reason to stop what serves
            self._tell_root(f"{self.path} cannot be read: {error.strerror or error}.")
            return
        self._tell_root("")
        self.looked_at = utc_now()
        for name, seen in snapshots.items():
            await self._follow(name, seen)
        for name in (
            {*self._entries, *(model.identity.models_folder for model in self._state.models())}
            - snapshots.keys()
            - {""}
        ):
            await self._follow_gone(name)

    def _tell_root(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("the models folder cannot be read; models from it are left unchanged", problem=problem)
        self.problem = problem

    async def _follow(self, name: str, seen: FolderSnapshot) -> None:
        entry = self._entries.setdefault(name, _Entry())
        now = self._clock()
        entry.gone_at = None
        if entry.seen is None or seen.files != entry.seen.files or seen.problem != entry.seen.problem:
            entry.seen, entry.seen_at = seen, now
        if entry.taken is not None and (entry.taken.files, entry.taken.problem) == (seen.files, seen.problem):
            await self._versions.clear_up(name)
        elif self._is_settled(seen, now - entry.seen_at) and len(self._under_way()) < UNDER_WAY_MAX:
            entry.taken, entry.problem = seen, None
            await self._take(name, entry, seen)

    def _is_settled(self, seen: FolderSnapshot, unchanged_seconds: float) -> bool:
        """Return whether the entry is unchanged for long enough.

        Its files' times tell that at once, where the clocks agree.
        """
        return unchanged_seconds >= SETTLE_SECONDS or self._wall_clock() - seen.changed_at >= SETTLE_SECONDS

    def _under_way(self) -> list[ModelVersion]:
        return [
            model
            for model in self._state.models()
            if model.identity.models_folder and self._deployments.busy(model.model_id)
        ]

    async def _take(self, name: str, entry: _Entry, seen: FolderSnapshot) -> None:
        """Make a version of the entry's present content, unless its newest version has just that content."""
        try:
            if seen.problem:
                raise BadInput(seen.problem)
            model = await self._version_of(name, entry, seen)
        except PrismError as error:
            if isinstance(error, StorageFailed | TooManyOpenFiles):  # no fault of the entry, so it is retried
                entry.taken = None
            entry.problem = error.problem()
            log.warning("an entry of the models folder is broken", entry=name, code=error.code, error=str(error))
        except OSError as error:  # the entry changes or goes away while it is read, or the disk is full
            entry.taken = None
            problem = problem_of(error)
            entry.problem = problem.problem() if problem is not None else None
            log.warning("an entry of the models folder could not be deployed", entry=name, **log_fields(error))
        else:
            entry.model_id = model.model_id if model is not None else ""

    async def _version_of(self, name: str, entry: _Entry, seen: FolderSnapshot) -> ModelVersion | None:
        """Return the version of the entry's present content; None if it changed during the copy, to be tried again."""
        assert self.path is not None
        began = self._clock()
        model_name(name, name)
        settings = self._deployments.pipeline.settings
        model_id = secrets.token_hex(6)
        folder = self._state.folder(model_id)
        try:
            place = folder / "artifact" / FOLDER
            artifact = await asyncio.to_thread(copy_entry, self.path, name, place, settings.max_upload_mb << 20)
            again = (await asyncio.to_thread(take_snapshot, self.path)).get(name)
        except BaseException:
            await discard(folder)
            raise
        present = self._versions.newest(name)
        is_known = present is not None and present.spec.artifact.sha256 == artifact.sha256
        if present is not None and not is_known and again is not None and again.files == seen.files:
            is_known = await self._versions.takes_number(present, artifact, place)
        if again is None or again.files != seen.files or is_known:
            await discard(folder)
            if not is_known:
                entry.taken = None
                return None
            assert present is not None
            await self._versions.start_again(present)
            return present
        await self._versions.give_up_unfinished(name)
        elapsed_ms = (self._clock() - began) * 1000
        texts = {"model_name": name}
        upload = Upload(model_id, folder, texts, artifact, (), models_folder=name, received_ms=elapsed_ms)
        model = await self._deployments.accept(upload, run=True)
        log.info("an entry of the models folder is a new version", entry=name, model=model.ref)
        return model

    async def _follow_gone(self, name: str) -> None:
        """Delete an entry's versions once it has been away for a moment: two renames may replace a folder."""
        entry = self._entries.setdefault(name, _Entry())
        now = self._clock()
        entry.gone_at = now if entry.gone_at is None else entry.gone_at
        if now - entry.gone_at < SETTLE_SECONDS:
            return
        for model in self._versions.of(name):
            try:
                await self._deployments.delete(model)
            except Conflict as error:  # it is in a rollout; it is deleted once that is over
                entry.problem = error.problem()
                return
            log.info("an entry of the models folder is gone; its version is deleted", entry=name, model=model.ref)
        del self._entries[name]

    @property
    def broken(self) -> list[tuple[str, dict[str, Any]]]:
        """The entries that could not be deployed, each with its problem."""
        return [(name, entry.problem) for name, entry in sorted(self._entries.items()) if entry.problem is not None]

    def document(self) -> dict[str, Any]:
        """Return what GET /models-folder answers."""
        return {
            "folder": str(self.path) if self.path is not None else None,
            "watched": self._loop is not None and not self._loop.done(),
            "looked_at": self.looked_at or None,
            "problem": self.problem or None,
            "ignored": [
                {
                    "name": name,
                    "hint": f"Files directly in the models folder are not served; move it into its own folder, {_folder_for(name)}/.",
                }
                for name in self.unserved
            ],
            "entries": [self._entry_document(name, entry) for name, entry in sorted(self._entries.items())],
        }

    def _entry_document(self, name: str, entry: _Entry) -> dict[str, Any]:
        model = self._versions.newest(name)
        error, state, serving = entry.problem, "waiting", None
        if model is not None and entry.taken is not None:
            deployment = self._state.deployment(model.model_id)
            error = error or (deployment.error if deployment.status is Status.FAILED else None)
            state = deployment.status.value
        if entry.problem is not None:
            state = "broken"
        if entry.gone_at is not None:
            state = "removed"
        try:
            current = self._state.find(name)
            serving = current.ref if is_serving(self._state.deployment(current.model_id)) else None
        except NotFound:
            pass
        return {
            "name": name,
            "state": state,
            "model_id": model.model_id if model is not None else None,
            "ref": model.ref if model is not None else None,
            "serving": serving,
            "error": error,
            "message": self._place(name),
        }

    def _place(self, name: str) -> str | None:
        """Return the progress of the entry's inspection, while it waits or goes on."""
        places = self._deployments.pipeline.readers.places
        return next((place.message for place in places if not place.request_id and place.filename == name), None)


def _folder_for(name: str) -> str:
    return name.split(".")[0] or name
