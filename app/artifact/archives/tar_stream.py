"""Reads the members of a tar archive so that no other program can have read something else in it.

A tar archive has no directory: each member's head says how far the next one is, and three generations of extensions
may each say something else. Here a head may be extended by a name alone; one that says its size in two ways, or is of
a kind other than file and folder, is refused, and so is an archive that does not end with its end mark.
Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from app.artifact.archives.compression import Stream
from app.artifact.archives.member import CHUNK_BYTES, MEMBERS_MAX, ArchiveMember, quoted, rejected

BLOCK: Final = 512
EXTENSION_BYTES_MAX: Final = 64 << 10
PADDING_BYTES_MAX: Final = 1 << 20
"""Most zeros behind the end mark: programs fill up their last record, of 10 KiB where nobody chose another size."""

_POSIX, _GNU = b"ustar\x0000", b"ustar  \0"
_FILE, _FOLDER, _PAX, _PAX_FOR_ALL, _LONG_NAME = b"0", b"5", b"x", b"g", b"L"
_NUMBER: Final = re.compile(rb" *([0-7]+)[ \0]*")
_DIGITS: Final = re.compile(rb"[1-9][0-9]{0,5} ")
_HARMLESS: Final = re.compile(
    r"(mtime|atime|ctime|uid|gid|uname|gname|comment|(LIBARCHIVE|SCHILY|APPLE|RHT|MSWINDOWS)\..+)"
)
"""Keys of an extension that change neither a member's name nor its content."""


class _Head(NamedTuple):
    name: str
    kind: bytes
    size_bytes: int


def is_tar(head: bytes) -> bool:
    """Return whether a tar archive begins with these bytes. head: the first 512 bytes."""
    return head[257:265] in (_POSIX, _GNU)


def tar_members(stream: Stream) -> Iterator[ArchiveMember]:
    """Yield the members in order. Raises UnreadableArtifact on the way."""
    name, seen = "", 0
    while (head := _head(_block(stream))) is not None:
        if head.kind in (_PAX, _PAX_FOR_ALL, _LONG_NAME):
            seen += 1
            given = _extended(head, _extension(stream, head))
            if name and given:
                raise rejected(f"the name of {quoted(given)} is given twice")
            name = given or name
        else:
            yield _entry(stream, head._replace(name=name or head.name))
            name = ""
        seen += 1
        if seen > 2 * MEMBERS_MAX:
            raise rejected(f"it has more than {MEMBERS_MAX} members")
    if name:
        raise rejected("it ends after the name of a member that is missing")
    _end(stream)


def _block(stream: Stream) -> bytes:
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise rejected("it ends without its end mark, so it was cut off")
    return block


def _head(block: bytes) -> _Head | None:
    """Read the head of a member; None for the first block of the end mark. Raises UnreadableArtifact."""
    if not any(block):
        return None
    if not is_tar(block):
        raise rejected("there is something else where the header of a member should be")
    if _number(block[148:156], "checksum") != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise rejected("the header of a member is damaged")
    kind = _FILE if block[156:157] == b"\0" else block[156:157]
    name = _text(block[:100])
    if prefix := _text(block[345:500]):
        if not block.startswith(_POSIX, 257):
            raise rejected(f"{quoted(name)} is described in a way that programs interpret differently")
        name = f"{prefix}/{name}"
    if kind not in (_FILE, _FOLDER, _PAX, _PAX_FOR_ALL, _LONG_NAME):
        raise rejected(
            f"{quoted(name)} is a link, a device or something else that is not a file (type {kind.decode('latin-1')!r})"
        )
    return _Head(name, kind, _number(block[124:136], f"size of {quoted(name)}"))


def _number(field: bytes, what: str) -> int:
    match = _NUMBER.fullmatch(field)
    if match is None:
        raise rejected(f"the {what} is not a number that all programs read the same way")
    return int(match[1], 8)


def _text(field: bytes) -> str:
    try:
        return field.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError:
        raise rejected("a name is not UTF-8") from None


def _extension(stream: Stream, head: _Head) -> bytes:
    if head.size_bytes > EXTENSION_BYTES_MAX:
        raise rejected("the extended header of a member is too long")
    return b"".join(_content(stream, head))


def _extended(head: _Head, content: bytes) -> str:
    """Return the name that an extension gives to the next member, "" for none."""
    if head.kind != _LONG_NAME:
        return _pax_name(content, for_all=head.kind == _PAX_FOR_ALL)
    if b"\0" in content[:-1]:
        raise rejected("a name contains a zero byte")
    return _text(content)


def _pax_name(content: bytes, *, for_all: bool) -> str:
    """Return the name among the records of a pax extension, "" for none.

    A record is `<length> <key>=<value>\\n`, where the length is that of the whole record.
    """
    name = ""
    while content:
        digits = _DIGITS.match(content)
        length = int(digits[0]) if digits else 0
        record = content[:length]
        if digits is None or len(record) < length or not record.endswith(b"\n"):
            raise rejected("the extended header of a member is damaged")
        try:
            key, separator, value = record[digits.end() : -1].decode().partition("=")
        except UnicodeDecodeError:
            key, separator, value = record[digits.end() : -1].decode("latin-1").partition("=")
            if key == "path":
                raise rejected("a name is not UTF-8") from None
        content = content[length:]
        if key == "path" and separator and value and not name and not for_all and "\0" not in value:
            name = value
        elif not separator or not _HARMLESS.fullmatch(key):
            raise rejected(f"a member has the attribute {quoted(key)}, which programs interpret differently")
    return name


def _entry(stream: Stream, head: _Head) -> ArchiveMember:
    is_folder = head.kind == _FOLDER
    if is_folder and head.size_bytes:
        raise rejected(f"the folder {quoted(head.name)} has content")
    if not is_folder and head.name.endswith("/"):
        raise rejected(f"{quoted(head.name)} is a folder by its name and a file by its type")
    return ArchiveMember(head.name, is_folder, head.size_bytes, _content(stream, head))


def _content(stream: Stream, head: _Head) -> Iterator[bytes]:
    left = head.size_bytes
    while left:
        chunk = stream.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise rejected(f"{quoted(head.name)} is cut off")
        left -= len(chunk)
        yield chunk
    padding = stream.read(-head.size_bytes % BLOCK)
    if len(padding) != -head.size_bytes % BLOCK:
        raise rejected(f"{quoted(head.name)} is cut off")


def _end(stream: Stream) -> None:
    if any(_block(stream)):
        raise rejected("there is data after the first half of its end mark")
    behind = 0
    while chunk := stream.read(CHUNK_BYTES):
        behind += len(chunk)
        if any(chunk) or behind > PADDING_BYTES_MAX:
            raise rejected("there is data after its end mark")
