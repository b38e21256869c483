"""The files that a predict request may be or hold, each told by its first bytes: the only list of them.

This file imports only the standard library, because the SDK, the gateway and every model's environment share it.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Tuple

HEAD_BYTES = 16
"""First bytes of a file that are enough to tell what it is."""

IMAGE, AUDIO = "image", "audio"
PARQUET_TYPE = "application/vnd.apache.parquet"
PARQUET_START = b"PAR1"


class FileType(NamedTuple):
    """Type of file. kind: IMAGE or AUDIO. aliases: further content types of the same. fits: test of the first bytes."""

    content_type: str
    kind: str
    suffixes: Tuple[str, ...]
    fits: Callable[[bytes], bool]
    aliases: Tuple[str, ...] = ()


FILE_TYPES = (
    FileType("image/png", IMAGE, (".png",), lambda head: head.startswith(b"\x89PNG\r\n\x1a\n")),
    FileType("image/jpeg", IMAGE, (".jpg", ".jpeg"), lambda head: head.startswith(b"\xff\xd8\xff")),
    FileType("image/webp", IMAGE, (".webp",), lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP"),
    FileType(
        "audio/wav",
        AUDIO,
        (".wav",),
        lambda head: head.startswith(b"RIFF") and head[8:12] == b"WAVE",
        ("audio/x-wav", "audio/wave", "audio/vnd.wave"),
    ),
)
SUFFIXES = tuple(suffix for file_type in FILE_TYPES for suffix in file_type.suffixes)


def file_type_of(content: bytes) -> Optional[FileType]:
    """Return the type of a file by its first bytes; None for any other content."""
    head = content[:HEAD_BYTES]
    return next((file_type for file_type in FILE_TYPES if file_type.fits(head)), None)


def content_types(kind: str) -> Tuple[str, ...]:
    """Return the content types of IMAGE or AUDIO, aliases included."""
    return tuple(
        name
        for file_type in FILE_TYPES
        if file_type.kind == kind
        for name in (file_type.content_type, *file_type.aliases)
    )
