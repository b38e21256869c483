"""Unpacks an uploaded archive into a folder of its own: files and folders, and nothing but these.

What an archive holds is the choice of whoever made it. So nothing is taken over but names and bytes: no links, no
devices, no owners, no permissions; each name is looked at before anything is written, two members never become one
file, and how much may come out of it is bounded three times: in bytes, in members, and in how often as large it gets.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from app.artifact.archives.compression import Stream
from app.artifact.archives.member import FACTOR, LEFT_OUT, MEMBERS_MAX, ArchiveMember, parts_of, quoted, rejected
from app.artifact.archives.tar_stream import is_tar, tar_members
from app.artifact.archives.zip_index import ZIP_MAGIC
from app.artifact.archives.zip_stream import zip_members
from app.errors import TooLarge

EMPTY_ZIP_MAGIC: Final = b"PK\5\6"
TAR_COMPRESSIONS: Final = ("", "gzip")
RATIO: Final = 200
RATIO_COUNTS_FROM_BYTES: Final = 64 << 20
"""Size from which an archive that grows to more than RATIO times itself is taken for a bomb. Deflate can do 1032."""


class Bounds(NamedTuple):
    """The most that may come out of one archive. bytes: in all. archive_bytes: the size of the archive itself."""

    bytes: int
    archive_bytes: int

    @classmethod
    def of(cls, archive: Path, max_upload_bytes: int) -> Bounds:
        return cls(FACTOR * max_upload_bytes, archive.stat().st_size)

    def check(self, unpacked_bytes: int) -> None:
        if unpacked_bytes > self.bytes:
            raise TooLarge(
                f"The archive unpacks to more than {self.bytes >> 20} MiB.",
                hint=f"That is {FACTOR} times PRISM_MAX_UPLOAD_MB; raise it, or leave out what the model does not need.",
                limit_bytes=self.bytes,
                field="file",
            )
        if unpacked_bytes > max(RATIO_COUNTS_FROM_BYTES, RATIO * self.archive_bytes):
            raise TooLarge(
                f"The archive unpacks to more than {RATIO} times its own size.",
                hint="A model does not do that; if yours does, upload the file itself.",
                field="file",
            )


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive, or a tar archive, bare or compressed by gzip. Its content decides."""
    with Stream(path) as stream:
        head = stream.peek(512)
        if not stream.compression and head.startswith((ZIP_MAGIC, EMPTY_ZIP_MAGIC)):
            return True
        return stream.compression in TAR_COMPRESSIONS and is_tar(head)


def unpack(archive: Path, into: Path, max_upload_bytes: int) -> None:
    """Unpack into the folder `into`, which must not exist and has all of it, or is gone, when this returns or raises.

    Raises UnreadableArtifact for what cannot be unpacked in one way that is safe, TooLarge for more than it may hold.
    The caller removes the folder after an error.
    """
    bounds = Bounds.of(archive, max_upload_bytes)
    into.mkdir(mode=0o755)
    tree = _Tree(into, bounds)
    with Stream(archive) as stream:
        if is_tar(stream.peek(512)):
            tree.take(tar_members(stream))
            return
    with archive.open("rb") as file:
        tree.take(zip_members(file))


class _Tree:
    """The folder as far as it is unpacked. Names are kept as they compare where capitals or accents do not count."""

    def __init__(self, root: Path, bounds: Bounds) -> None:
        self._root = root
        self._bounds = bounds
        self._bytes = 0
        self._folders: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._files: set[tuple[str, ...]] = set()

    def take(self, members: Iterator[ArchiveMember]) -> None:
        for count, entry in enumerate(members, 1):
            if count > MEMBERS_MAX:
                raise rejected(f"it has more than {MEMBERS_MAX} members")
            self._take(entry)

    def _take(self, entry: ArchiveMember) -> None:
        parts = parts_of(entry.name)
        self._bounds.check(self._bytes + entry.size_bytes)
        self._bytes += entry.size_bytes
        if not LEFT_OUT.isdisjoint(parts) or (parts and parts[-1].startswith("._")):
            for _ in entry.content:
                pass
        elif entry.is_folder:
            self._folder(parts)
            for _ in entry.content:
                pass
        else:
            self._file(parts, entry)

    def _folder(self, parts: tuple[str, ...]) -> None:
        for depth in range(1, len(parts) + 1):
            path = parts[:depth]
            known = self._folders.setdefault(_compared(path), path)
            if known != path or _compared(path) in self._files:
                raise rejected(
                    f"{quoted('/'.join(path))} and {quoted('/'.join(known))} would be the same file on some machines"
                )
        self._root.joinpath(*parts).mkdir(mode=0o755, parents=True, exist_ok=True)

    def _file(self, parts: tuple[str, ...], entry: ArchiveMember) -> None:
        if not parts:
            raise rejected("a member has no name")
        self._folder(parts[:-1])
        compared = _compared(parts)
        if compared in self._files or compared in self._folders:
            raise rejected(
                f"it has {quoted(entry.name)} more than once, or in two spellings that are the same on some machines"
            )
        self._files.add(compared)
        path = self._root.joinpath(*parts)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in entry.content:
                file.write(chunk)


def _compared(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path in the form in which macOS and Windows compare it: capitals folded, accents composed."""
    return tuple(unicodedata.normalize("NFKC", unicodedata.normalize("NFD", part).casefold()) for part in parts)
