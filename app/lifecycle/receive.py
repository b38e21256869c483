"""Takes an upload in: the form is parsed as it arrives, its files go to disk and never wait in memory."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path
from typing import IO

from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.model import Artifact
from app.errors import BadInput, PrismError, TooLarge, UnsupportedFormat

FIELDS = (
    "file",
    "model_name",
    "model_description",
    "expected_input_json",
    "requirements",
    "python_version",
    "target",
    "code_files",
    "allow_unsafe",
    "accelerate",
)
TEXT_LIMIT_BYTES = 1 << 20
CODE_LIMIT_BYTES = 4 << 20
WRITE_BYTES = 1 << 20
"""Parsed and written at once, in a thread: large enough to be rare, small enough to be nothing in memory."""


class Upload(Struct, frozen=True):
    """A form, received: texts by field, the artifact and the code files on disk below `folder`."""

    model_id: str
    folder: Path
    texts: dict[str, str]
    artifact: Artifact
    code_files: tuple[str, ...]

    @property
    def artifact_path(self) -> Path:
        return self.folder / "artifact" / self.artifact.filename


class _Part:
    """The part of the form that is being read."""

    def __init__(self) -> None:
        self.headers = Message()
        self.field = ""
        self.filename: str | None = None
        self.text = bytearray()
        self.file: IO[bytes] | None = None
        self.size_bytes = 0


class FormReceiver:
    """Parses a multipart body piece by piece; `feed` and `finish` are called in a thread.

    Raises BadInput for a form that is not one, TooLarge past a limit.
    """

    def __init__(self, boundary: bytes, folder: Path, max_file_bytes: int) -> None:
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_done,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finished,
            },
        )
        self._part = _Part()
        self._name = bytearray()
        self._value = bytearray()
        self._complete = False
        self._digest = hashlib.sha256()
        self.texts: dict[str, str] = {}
        self.artifact: Artifact | None = None
        self.code_files: list[str] = []

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadInput(
                f"The form cannot be read: {error}.", hint="Send multipart/form-data, as `curl -F` does."
            ) from error

    def finish(self) -> Artifact:
        if not self._complete:
            raise BadInput("The form ends before its closing boundary.", hint="Send the upload again, whole.")
        if self.artifact is None:
            raise BadInput("The form has no `file`.", hint="Add the model file: `curl -F file=@model.pkl …`.")
        return self.artifact

    def close(self) -> None:
        if self._part.file is not None:
            self._part.file.close()

    def _begin(self) -> None:
        self._part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._name.decode("latin-1")] = self._value.decode("utf-8", "replace")
        self._name.clear()
        self._value.clear()

    def _headers_done(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get("Content-Disposition", "").encode())
        part.field = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        part.filename = None if filename is None else filename.decode("utf-8", "replace")
        if part.field not in FIELDS:
            near = difflib.get_close_matches(part.field, FIELDS, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else f"Fields are: {', '.join(FIELDS)}."
            raise BadInput(f"The form has an unknown field `{part.field[:100]}`.", hint=hint, field=part.field[:100])
        if part.field in ("file", "code_files"):
            part.file = self._open(part)

    def _open(self, part: _Part) -> IO[bytes]:
        if not part.filename:
            raise BadInput(f"`{part.field}` is not a file.", hint=f"With curl: `-F {part.field}=@path` (mind the @).")
        name = safe_filename(part.filename)
        if part.field == "file" and self.artifact is not None:
            raise BadInput("The form has more than one `file`.", hint="Upload one model at a time.")
        if part.field == "code_files":
            if not name.endswith(".py") or not name[:-3].isidentifier():
                raise BadInput(f"`{name}` cannot be imported as Python code.", hint="code_files are .py modules.")
            if name in self.code_files:
                raise BadInput(f"Two code files are named `{name}`.")
        folder = self._folder / ("artifact" if part.field == "file" else "code")
        folder.mkdir(parents=True, exist_ok=True)
        part.filename = name
        return (folder / name).open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size_bytes += end - start
        if part.file is None:
            if part.size_bytes > TEXT_LIMIT_BYTES:
                raise TooLarge(f"The field `{part.field}` is over 1 MiB.", field=part.field)
            part.text += data[start:end]
            return
        limit = self._max_file_bytes if part.field == "file" else CODE_LIMIT_BYTES
        if part.size_bytes > limit:
            raise too_large_file(limit)
        piece = data[start:end]
        part.file.write(piece)
        if part.field == "file":
            self._digest.update(piece)

    def _end(self) -> None:
        part = self._part
        if part.file is None:
            if part.field in self.texts:
                raise BadInput(f"The form has the field `{part.field}` twice.", field=part.field)
            try:
                self.texts[part.field] = part.text.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise BadInput(f"The field `{part.field}` is not UTF-8 text.", field=part.field) from error
            return
        part.file.close()
        part.file = None
        assert part.filename is not None
        if part.field == "code_files":
            self.code_files.append(part.filename)
        else:
            self.artifact = Artifact(part.filename, self._digest.hexdigest(), part.size_bytes)

    def _finished(self) -> None:
        self._complete = True


def safe_filename(name: str) -> str:
    """The last component of an uploaded name, without what a path, a shell or a Dockerfile could take amiss."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(char if char.isalnum() or char in "._-" else "_" for char in base).lstrip(".")
    return kept[-128:] or "model"


def too_large_file(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"The file is larger than {limit_bytes // (1 << 20)} MiB.",
        hint="Raise PRISM_MAX_UPLOAD_MB, or save a smaller model.",
        limit_bytes=limit_bytes,
    )


def boundary_of(content_type: str) -> bytes:
    """Raises UnsupportedFormat if the body is not multipart/form-data."""
    kind, options = parse_options_header(content_type.encode())
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UnsupportedFormat(
            f"An upload is multipart/form-data, not `{content_type or 'nothing'}`.",
            hint="With curl: `-F file=@model.pkl -F model_name=my-model`.",
        )
    return options[b"boundary"]


async def receive(
    chunks: AsyncIterator[bytes], content_type: str, content_length: int | None, root: Path, max_upload_bytes: int
) -> Upload:
    """Stream the form to `<root>/<model_id>/`. On any error nothing is left behind."""
    boundary = boundary_of(content_type)
    room = max_upload_bytes + len(FIELDS) * TEXT_LIMIT_BYTES
    if content_length is not None and content_length > room:
        raise too_large_file(max_upload_bytes)
    model_id = secrets.token_hex(6)
    folder = root / model_id
    folder.mkdir(parents=True, mode=0o700)
    receiver = FormReceiver(boundary, folder, max_upload_bytes)
    try:
        buffer = bytearray()
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= WRITE_BYTES:
                await asyncio.to_thread(receiver.feed, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(receiver.feed, bytes(buffer))
        artifact = receiver.finish()
    except BaseException as error:
        receiver.close()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise _disk_error(error) from error
        raise
    return Upload(model_id, folder, receiver.texts, artifact, tuple(receiver.code_files))


def _disk_error(error: OSError) -> PrismError:
    return PrismError(
        f"The upload could not be stored: {error.strerror}.", hint="Make room, or move MODEL_UPLOAD_ROOT."
    )
