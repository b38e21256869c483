"""The body of a prediction: JSON, an image or a WAV file as it is, or several of them in a form.

A file is told by its first bytes, which no JSON begins with. It is not decoded here: the model's runtime does that.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_container.contract.file_types import SUFFIXES, file_type_of
from prism.errors import InvalidRequest

JSON = "application/json"


@dataclass(frozen=True)
class Body:
    """Body of a request and its content type."""

    content: bytes
    content_type: str = JSON


def predict_body(data: Any, encode: Callable[[Any], bytes]) -> Body:
    """Return the body for any input of `predict`. encode: writes what is no file as JSON.

    Raises InvalidRequest for a file that cannot be read, and for what has no JSON form.
    """
    if isinstance(data, (list, tuple)) and data and all(map(_is_file, data)):
        return _form([_content(item) for item in data])
    if not _is_file(data):
        return Body(encode(data))
    content = _content(data)
    return Body(content, file_kind(content) or JSON)


def file_kind(content: bytes) -> str | None:
    """Return the content type of an image or a sound; None for anything else."""
    file_type = file_type_of(content)
    return None if file_type is None else file_type.content_type


def _is_file(data: Any) -> bool:
    if isinstance(data, bytes):
        return file_kind(data) is not None
    if isinstance(data, str):  # a text is an input like any other, unless it names a file that is there
        return data.lower().endswith(SUFFIXES) and len(data) < 4096 and os.path.isfile(data)
    return isinstance(data, os.PathLike) or _is_pillow_image(data)


def _is_pillow_image(data: Any) -> bool:
    return all(callable(getattr(data, name, None)) for name in ("getbands", "save"))


def _content(file: Any) -> bytes:
    if isinstance(file, bytes):
        return file
    try:
        if isinstance(file, (str, os.PathLike)):
            return Path(file).read_bytes()
        encoded = io.BytesIO()
        file.save(encoded, format="PNG")
        return encoded.getvalue()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = os.fspath(file) if isinstance(file, (str, os.PathLike)) else "The image"
        raise InvalidRequest(
            f"{what} cannot be read: {reason}.", hint="Give an image, a WAV or a JSON file."
        ) from error


def _form(files: list[bytes]) -> Body:
    """Return a form of images or sounds. Raises InvalidRequest if one is something else."""
    boundary = secrets.token_hex(16)
    parts = []
    for index, content in enumerate(files):
        kind = file_kind(content)
        if kind is None:
            raise InvalidRequest(
                f"File {index} is not a PNG, JPEG or WebP image, nor WAV.", hint="Send other rows as JSON."
            )
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{index}"\r\n'
        parts.append(f"{head}Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n")
    return Body(b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")
