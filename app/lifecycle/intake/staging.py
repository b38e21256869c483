"""Uploads that were received and read, and wait for their owner's decision before anything is built.

Their content is shown meanwhile. A staged upload lies where its model will, in `<root>/<upload_id>/`, and differs from
a model in having no record. So the server's start takes it for an interrupted upload, which it then is, and removes it.
"""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta

from msgspec import Struct, structs

from app.core.model import ModelVersion
from app.errors import BadInput, NotFound, PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.intake.read_upload import CODE, Inspected
from app.lifecycle.intake.receive import Form, Upload, discard
from app.lifecycle.intake.refusals import refusals_of
from app.lifecycle.intake.register import build_version

KEPT_SECONDS = 3600.0
REPLACED = "replaced"


class Staged(Struct, frozen=True):
    """An upload that was read and waits. expires_at: when it is removed, in RFC 3339."""

    inspected: Inspected
    expires_at: str

    @property
    def upload(self) -> Upload:
        return self.inspected.upload

    @property
    def upload_id(self) -> str:
        """The model_id that the model will have."""
        return self.upload.model_id


class Staging:
    """The staged uploads.

    deployments: takes an upload over once it is to be deployed. kept_seconds: how long an upload waits.
    """

    def __init__(self, deployments: Deployments, kept_seconds: float = KEPT_SECONDS) -> None:
        self._deployments = deployments
        self._kept_seconds = kept_seconds
        self._staged: dict[str, Staged] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._deploying = asyncio.Lock()

    async def add(self, form: Form) -> Staged:
        """Read an artifact and stage it.

        Raises BadInput for a form without an artifact, UnsupportedFormat or UnreadableArtifact; then nothing is left of
        it.
        """
        try:
            inspected = await self._deployments.inspect(form.upload())
        except BaseException:
            await discard(form.folder)
            raise
        expires = datetime.now(UTC) + timedelta(seconds=self._kept_seconds)
        at = expires.isoformat(timespec="seconds").replace("+00:00", "Z")
        return self._keep(Staged(inspected, at))

    def _keep(self, staged: Staged) -> Staged:
        self._staged[staged.upload_id] = staged
        if staged.upload_id not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[staged.upload_id] = loop.call_later(self._kept_seconds, self._expire, staged.upload_id)
        return staged

    def get(self, upload_id: str) -> Staged:
        """Return a staged upload. Raises NotFound."""
        staged = self._staged.get(upload_id)
        if staged is None:
            raise NotFound(
                f"The upload `{upload_id[:50]}` no longer exists.",
                hint=f"An upload is kept for {self._kept_seconds / 60:.0f} min, and only while the server runs. "
                "Upload the file again.",
                field="file",
            )
        return staged

    async def amend(self, upload_id: str, form: Form) -> Staged:
        """Add a later form to a staged upload: its texts win, and its code files join those that are there.

        Raises NotFound, also if it was deployed meanwhile: its files are then the model's.
        """
        async with self._deploying:
            return await self._amend(upload_id, form)

    async def _amend(self, upload_id: str, form: Form) -> Staged:
        try:
            staged = self.get(upload_id)
        except NotFound:
            await discard(form.folder)
            raise
        names = (*staged.upload.code_files, *form.code_files)
        texts = {**staged.upload.texts, **form.texts}
        upload = structs.replace(staged.upload, texts=texts, code_files=tuple(dict.fromkeys(names)))
        inspected = structs.replace(staged.inspected, upload=upload)
        try:
            if form.code_files:
                await asyncio.to_thread(_add_code, form, upload)
                inspected = await self._deployments.add_code(inspected, upload)
        except BaseException:
            await asyncio.to_thread(_take_code_back, form, upload)
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, form.folder, True)
        return self._keep(structs.replace(staged, inspected=inspected))

    async def refusals(self, staged: Staged) -> list[PrismError]:
        """Return why the upload could not be deployed as it is.

        Reasons are an invalid field, a danger without consent, missing code, and packages that no environment can
        satisfy.
        """
        try:
            draft = build_version(staged.inspected, self._deployments.state, self._deployments.pipeline.targets)
        except PrismError as error:
            return [error]
        spec, inspection = draft.model.spec, draft.inspection
        refusals: list[PrismError] = [
            *refusals_of(inspection, allow_unsafe=spec.allow_unsafe, code_files=spec.code_files)
        ]
        try:
            await self._deployments.pipeline.requirements(draft.model, inspection)
        except PrismError as error:
            refusals.append(error)
        return refusals

    async def deploy_form(self, form: Form, *, run: bool) -> ModelVersion:
        """Deploy the model that a form contains, or the staged one that it names by `upload_id`.

        Raises what `Deployments.accept` raises; the form's files are then removed, and what was staged stays staged.
        """
        upload_id = form.texts.get("upload_id", "")
        try:
            if not upload_id:
                return await self._deployments.accept(form.upload(), run=run)
            if form.artifact is not None:
                hint = "Send either a file or the id of an earlier upload."
                raise BadInput("The form has both a file and the id of an earlier upload.", hint=hint, field="file")
            return await self.deploy(upload_id, form, run=run)
        except BaseException:
            await discard(form.folder)
            raise

    async def deploy(self, upload_id: str, form: Form | None = None, *, run: bool) -> ModelVersion:
        """Deploy a staged upload with what a last form adds. If it is refused, it stays staged.

        It does not if it was recorded all the same, as its files are then the model's, or if its files are gone.

        One that was deployed already is only returned, so that a second click does nothing more.
        """
        async with self._deploying:
            deployed = self._deployments.state.model(upload_id)
            if deployed is not None:
                if form is not None:
                    await discard(form.folder)
                return deployed
            staged = self.get(upload_id) if form is None else await self._amend(upload_id, form)
            self._let_go(upload_id)
            try:
                registered = await self._deployments.register(staged.inspected, run=run)
                return await self._deployments.deploy(registered)
            except BaseException:
                if self._deployments.state.model(upload_id) is None and staged.upload.folder.exists():
                    self._keep(staged)
                raise

    async def forget(self, upload_id: str) -> None:
        """Remove a staged upload with its files. Does nothing if it is gone."""
        staged = self._let_go(upload_id)
        if staged is not None:
            await discard(staged.upload.folder)

    def _let_go(self, upload_id: str) -> Staged | None:
        timer = self._timers.pop(upload_id, None)
        if timer is not None:
            timer.cancel()
        return self._staged.pop(upload_id, None)

    def _expire(self, upload_id: str) -> None:
        staged = self._let_go(upload_id)
        if staged is not None:
            asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, staged.upload.folder, True)


def _add_code(form: Form, upload: Upload) -> None:
    """Move a form's code files to the upload. A later file replaces one of the same name, which the form's folder keeps."""
    for name in form.code_files:
        place, replaced = upload.folder / CODE / name, form.folder / REPLACED / name
        if place.exists():
            replaced.parent.mkdir(parents=True, exist_ok=True)
            place.replace(replaced)
        place.parent.mkdir(parents=True, exist_ok=True)
        (form.folder / CODE / name).replace(place)


def _take_code_back(form: Form, upload: Upload) -> None:
    """Undo `_add_code`, however far it came."""
    for name in form.code_files:
        place, replaced = upload.folder / CODE / name, form.folder / REPLACED / name
        if not (form.folder / CODE / name).exists():
            place.unlink(missing_ok=True)
        if replaced.exists():
            replaced.replace(place)
