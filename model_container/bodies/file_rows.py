"""Files where a request gives rows: as they are, base64 or data URLs become the array that the model's input takes."""

from __future__ import annotations

import binascii
from typing import Any, FrozenSet, List, Optional, Protocol, Sequence, Union

import numpy as np

from model_container.bodies.audio_rows import takes_no_audio
from model_container.bodies.content import Content, Named, Rows, no_rows
from model_container.bodies.image_rows import takes_no_images
from model_container.bodies.problems import Problem, shown
from model_container.contract.file_types import AUDIO, file_type_of

_DATA_URL = "data:"
_URL_SAFE = str.maketrans("-_", "+/")

File = Union[bytes, str]


class FileReader(Protocol):
    """Interface of the readers of images and of sounds. names: under which a request may give the files.

    is_one_at_a_time: the input holds one file, so that its first dimension is no row.
    """

    names: FrozenSet[str]
    is_one_at_a_time: bool

    def array(self, files: Sequence[bytes]) -> Any:
        """Return the values of all files in the shape of the input. Raises Problem."""
        ...

    def unreadable(self, row: int, reason: str = "") -> Problem:
        """Return the problem of a row that is no file of this kind."""
        ...


class FileRows:
    """Reader of the files in the requests of one model. reader: None if its input takes no files."""

    def __init__(self, reader: Optional[FileReader]) -> None:
        self._reader = reader
        self.is_one_at_a_time = reader is not None and reader.is_one_at_a_time

    def content(self, content: Content) -> Content:
        """Return the content with its files as an array; unchanged if it has none.

        Raises Problem for what is no such file, and for files that the model does not take.
        """
        reader = self._reader
        if reader is None:
            if isinstance(content, Rows) and _are_files(content.values):
                raise _takes_none(content.values[0])
            return content
        files = _files(content, reader.names)
        if files is None:
            return content
        return Rows(reader.array([_bytes_of(file, row, reader) for row, file in enumerate(files)]))


def _takes_none(file: bytes) -> Problem:
    file_type = file_type_of(file)
    return takes_no_audio() if file_type is not None and file_type.kind == AUDIO else takes_no_images()


def _files(content: Content, names: FrozenSet[str]) -> Optional[List[File]]:
    values: Any = content.values
    if isinstance(content, Named):
        if len(content.values) != 1 or names.isdisjoint(content.values):
            return None
        (values,) = content.values.values()
    if isinstance(values, np.ndarray):
        if values.dtype.kind != "O":
            return None
        values = values.ravel().tolist()
    values = values if isinstance(values, list) else [values]
    while values and all(type(value) is list and len(value) == 1 for value in values):
        values = [value[0] for value in values]
    return values if values and all(isinstance(value, (bytes, str)) for value in values) else None


def _are_files(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and type(values[0]) is bytes


def _bytes_of(file: File, row: int, reader: FileReader) -> bytes:
    """Return a file's bytes. Raises Problem for a text that is neither base64 nor a data URL of base64."""
    if isinstance(file, bytes):
        return file
    text = file.strip()
    if text[: len(_DATA_URL)].lower() == _DATA_URL:
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise reader.unreadable(row, "its data URL is not in base64")
    if not text:
        raise no_rows() if not file else reader.unreadable(row, "its data URL is empty")
    if text[:8].lower().startswith(("http://", "https://")):
        raise reader.unreadable(row, f"the address {shown(text)} is not fetched")
    try:
        return _from_base64("".join(text.split()).translate(_URL_SAFE))
    except (binascii.Error, ValueError):
        raise reader.unreadable(row, f"{shown(text[:40])} is not base64") from None


def _from_base64(text: str) -> bytes:
    """Decode base64, with or without its padding. Raises ValueError for other characters."""
    if not text.isascii() or any(character not in _ALPHABET for character in set(text)):
        raise ValueError(text[:10])
    return binascii.a2b_base64(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))


_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
