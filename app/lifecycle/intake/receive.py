"""Receives an upload: from the stream of a request to files in a folder of its own."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path
from time import monotonic

import structlog
from msgspec import Struct

from app.core.folders import remove_folder
from app.core.model import Artifact
from app.core.os_errors import problem_of
from app.errors import BadInput, PrismError, StorageFailed
from app.lifecycle.intake.multipart import FIELDS, TEXT_LIMIT_BYTES, FormReceiver, boundary_of, too_large_file

log = structlog.get_logger(__name__)

MODEL_ID = re.compile(r"[0-9a-f]{12}")
WRITE_BYTES = 1 << 20
"""How much is parsed and written at once, in a thread: large enough to be rare, small enough to be negligible in
memory.
"""


DISCARD_PAUSES_SECONDS = (0.5, 1, 2, 4, 8, 16, 32, 64)
_DISCARDING: set[asyncio.Task[None]] = set()
"""Tasks that must stay referenced: the event loop alone does not keep a task alive."""


class Form(Struct, frozen=True):
    """A received form: texts by field, and files on disk below `folder`, which is named `model_id`.

    artifact: None for a form without a file, which may name a staged upload. request_id: of the request that brought
    it. received_ms: how long its transfer took. address: where it came from.
    """

    model_id: str
    folder: Path
    texts: dict[str, str]
    artifact: Artifact | None
    code_files: tuple[str, ...]
    request_id: str = ""
    received_ms: float = 0.0
    address: str = ""

    def upload(self) -> Upload:
        """Return the upload that the form holds. Raises BadInput if it holds no model."""
        if self.artifact is None:
            raise BadInput(
                "The form has no `file`.", hint="Choose the model file; with curl: `-F file=@model.pkl`.", field="file"
            )
        return Upload(
            self.model_id,
            self.folder,
            self.texts,
            self.artifact,
            self.code_files,
            request_id=self.request_id,
            received_ms=self.received_ms,
            address=self.address,
        )


class Upload(Struct, frozen=True):
    """A received model: its form's texts, and its artifact and code files on disk below `folder`.

    code_files: paths of the Python files that were sent with it. own_code: names at the top of the code that came in its
    own folder. models_folder: the entry of the models folder that it was taken from, "" for an upload by request. request_id: of
    the request that brought it. received_ms: how long its transfer took. address: where it came from.
    """

    model_id: str
    folder: Path
    texts: dict[str, str]
    artifact: Artifact
    code_files: tuple[str, ...]
    own_code: tuple[str, ...] = ()
    models_folder: str = ""
    request_id: str = ""
    received_ms: float = 0.0
    address: str = ""


async def receive(
    chunks: AsyncIterator[bytes],
    content_type: str,
    content_length: int | None,
    root: Path,
    max_upload_bytes: int,
    fields: Collection[str] = FIELDS,
    texts: dict[str, str] | None = None,
) -> Form:
    """Stream a form to `<root>/<model_id>/`. On any error nothing is left behind.

    texts: filled with the form's texts as they arrive, so that they are known even if the form is refused.
    """
    began = monotonic()
    boundary = boundary_of(content_type)
    room = max_upload_bytes + len(FIELDS) * TEXT_LIMIT_BYTES
    if content_length is not None and content_length > room:
        raise too_large_file(max_upload_bytes)
    model_id = secrets.token_hex(6)  # it matches MODEL_ID
    folder = root / model_id
    receiver = FormReceiver(boundary, folder, max_upload_bytes, fields, {} if texts is None else texts)
    try:
        folder.mkdir(parents=True, mode=0o700)
        buffer, size_bytes = bytearray(), 0
        async for chunk in chunks:
            buffer += chunk
            size_bytes += len(chunk)
            if size_bytes > room:
                raise too_large_file(max_upload_bytes)
            if len(buffer) >= WRITE_BYTES:
                await asyncio.to_thread(receiver.feed, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(receiver.feed, bytes(buffer))
        receiver.finish()
    except BaseException as error:
        receiver.close()
        await discard(folder)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise problem_of(error) or _disk_error(error) from error
        raise
    elapsed_ms = (monotonic() - began) * 1000
    code_files = tuple(receiver.code_files)
    return Form(model_id, folder, receiver.texts, receiver.artifact, code_files, received_ms=elapsed_ms)


async def discard(folder: Path) -> None:
    """Remove what was stored of an upload; retry later if that fails now, as when no file can be opened."""
    with suppress(OSError):
        await asyncio.to_thread(remove_folder, folder)
    if folder.exists():
        task = asyncio.create_task(_discard_later(folder), name=f"remove {folder.name}")
        _DISCARDING.add(task)
        task.add_done_callback(_DISCARDING.discard)


async def _discard_later(folder: Path) -> None:
    for pause_seconds in DISCARD_PAUSES_SECONDS:
        await asyncio.sleep(pause_seconds)
        with suppress(OSError):
            await asyncio.to_thread(remove_folder, folder)
        if not folder.exists():
            return
    log.error("an incomplete upload could not be removed; the next start tries again", path=str(folder))


def remove_torn_uploads(root: Path, known: Collection[str]) -> None:
    """Remove the folders of uploads that were interrupted, or forgotten, before they became models.

    known: the known model_ids.
    """
    for folder in root.iterdir():
        if MODEL_ID.fullmatch(folder.name) and folder.name not in known and _torn(folder):
            with suppress(OSError):
                remove_folder(folder)


def _torn(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "model.json").exists()


def _disk_error(error: OSError) -> PrismError:
    return StorageFailed(
        f"The upload could not be stored: {error.strerror}.", hint="Free some space, or move MODEL_UPLOAD_ROOT."
    )
