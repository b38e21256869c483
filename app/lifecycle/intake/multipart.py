"""The multipart form of an upload, parsed as it arrives: its files go to disk and are never held in memory."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.contents import CODE_LIMIT_BYTES
from app.core.model import Artifact
from app.core.reading import CODE_FILES_MAX
from app.errors import BadInput, TooLarge, UnsupportedFormat

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
    "allow_packages",
    "accelerate",
    "replicas",
    "keep",
    "side_effects",
    "version",
    "bump",
    "traffic",
    "metadata",
    "parent",
    "gpu",
    "upload_id",
)
FILES = ("file", "code_files")
REPEATED = ("allow_packages",)
"""Text fields that may come more than once; their values are joined by newlines."""

TEXT_LIMIT_BYTES = 1 << 20
CODE_FOLDERS_MAX = 8
CODE_PATH_MAX = 200


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
    """A parser of a multipart body, fed piece by piece; `feed` and `finish` are called in a thread.

    texts: filled as they arrive, even if the form is refused later.
    Raises BadInput for an invalid form, TooLarge past a limit. A code file that cannot be accepted is refused at the
    end: it is small, and the texts of all fields are then known.
    """

    def __init__(
        self, boundary: bytes, folder: Path, max_file_bytes: int, fields: Collection[str], texts: dict[str, str]
    ) -> None:
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._fields = fields
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
        self._refusal: BadInput | None = None
        self._left_out = ""
        self.texts = texts
        self.artifact: Artifact | None = None
        self.code_files: list[str] = []

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadInput(
                f"The form cannot be read: {error}.", hint="Send multipart/form-data, as `curl -F` does."
            ) from error

    def finish(self) -> None:
        if not self._complete:
            raise BadInput("The form ends before its closing boundary.", hint="Send the whole upload again.")
        if self._left_out and not self.code_files:
            self._refuse(f"`{self._left_out}` cannot be imported as Python code.", hint="Code is sent as .py modules.")
        if self._refusal is not None:
            raise self._refusal

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
        if part.field not in self._fields:
            near = difflib.get_close_matches(part.field, self._fields, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else f"Fields are: {', '.join(self._fields)}."
            raise BadInput(f"The form has an unknown field `{part.field[:100]}`.", hint=hint, field=part.field[:100])
        if part.field in FILES and part.filename != "":
            part.file = self._open(part)

    def _open(self, part: _Part) -> IO[bytes] | None:
        if part.filename is None:
            hint = f"With curl: `-F {part.field}=@path` (note the @)."
            raise BadInput(f"`{part.field}` is not a file.", hint=hint, field=part.field)
        if part.field == "code_files":
            return self._open_code(part, part.filename)
        if self.artifact is not None:
            raise BadInput("The form has more than one `file`.", hint="Upload one model at a time.", field="file")
        part.filename = safe_filename(part.filename)
        return _create(self._folder / "artifact" / part.filename)

    def _open_code(self, part: _Part, sent: str) -> IO[bytes] | None:
        """Open a code file. None for one that is not stored: it is refused, or is no Python in a folder of code."""
        path = code_path(sent)
        part.filename = str(path)
        if path.suffix != ".py":
            self._left_out = self._left_out or sent[:100]
        elif len(path.parts) > CODE_FOLDERS_MAX or len(str(path)) > CODE_PATH_MAX:
            self._refuse(
                f"The path of the code file `{sent[:100]}` is too long.", hint="Send it from a folder nearer to it."
            )
        elif len(self.code_files) == CODE_FILES_MAX:
            self._refuse(
                f"The form has more than {CODE_FILES_MAX} code files.", hint="Send those that the model imports."
            )
        elif part.filename in self.code_files:
            self._refuse(f"Two code files are named `{path}`.")
        else:
            return _create(self._folder / "code" / path)
        return None

    def _refuse(self, detail: str, hint: str = "") -> None:
        self._refusal = self._refusal or BadInput(detail, hint=hint, field="code_files")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size_bytes += end - start
        if part.field not in FILES:
            if part.size_bytes > TEXT_LIMIT_BYTES:
                raise TooLarge(f"The field `{part.field}` is over 1 MiB.", field=part.field)
            part.text += data[start:end]
            return
        is_code = part.field == "code_files" and part.file is not None
        limit = CODE_LIMIT_BYTES if is_code else self._max_file_bytes
        if part.size_bytes > limit:
            raise too_large_code(limit) if is_code else too_large_file(limit)
        if part.file is None:  # it is refused, is no code, or has no name
            return
        piece = data[start:end]
        part.file.write(piece)
        if part.field == "file":
            self._digest.update(piece)

    def _end(self) -> None:
        part = self._part
        if part.field in FILES and part.file is None:
            if part.size_bytes and not part.filename:  # browsers send a nameless, empty part if no file was chosen
                raise BadInput(f"The file in `{part.field}` has no name.", field=part.field)
            return
        if part.file is None:
            if part.field in self.texts and part.field not in REPEATED:
                raise BadInput(f"The form has the field `{part.field}` twice.", field=part.field)
            try:
                text = part.text.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise BadInput(f"The field `{part.field}` is not UTF-8 text.", field=part.field) from error
            self.texts[part.field] = f"{self.texts[part.field]}\n{text}" if part.field in self.texts else text
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


def _create(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def code_path(name: str) -> PurePosixPath:
    """Return the path of an uploaded code file, such as `src/features.py`, with every part a name that can be imported.

    Nothing in it leads out of the folder that it is stored in.
    """
    *folders, file = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")] or [""]
    stem, dot, suffix = file.rpartition(".")
    return PurePosixPath(*map(_identifier, folders), f"{_identifier(stem)}{dot}{suffix}" if dot else _identifier(file))


def _identifier(text: str) -> str:
    """Return the text as an identifier: `train-v2` is `train_v2`."""
    kept = "".join(char if char.isalnum() or char == "_" else "_" for char in text)
    return kept if kept.isidentifier() else f"_{kept}"


def safe_filename(name: str) -> str:
    """Return the last component of an uploaded name, safe to use in a path, a shell and a Dockerfile."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(char if char.isalnum() or char in "._-" else "_" for char in base).lstrip(".")
    return kept[-128:] or "model"


def too_large_file(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"The file is larger than {limit_bytes // (1 << 20)} MiB.",
        hint="Raise PRISM_MAX_UPLOAD_MB, or save a smaller model.",
        limit_bytes=limit_bytes,
        field="file",
    )


def too_large_code(limit_bytes: int) -> TooLarge:
    return TooLarge(f"A code file is larger than {limit_bytes // (1 << 20)} MiB.", field="code_files")


def boundary_of(content_type: str) -> bytes:
    """Return the form's boundary. Raises UnsupportedFormat if the body is not multipart/form-data."""
    kind, options = parse_options_header(content_type.encode())
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UnsupportedFormat(
            f"An upload is multipart/form-data, not `{content_type or 'nothing'}`.",
            hint="With curl: `-F file=@model.pkl -F model_name=my-model`.",
        )
    return options[b"boundary"]
