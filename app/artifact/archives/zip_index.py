"""Looks into an uploaded zip archive without unpacking it: what it holds, and single members within bounds."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from app.errors import UnreadableArtifact

MEMBERS_MAX: Final = 100_000
ZIP_MAGIC: Final = b"PK\x03\x04"


class ZipFile:
    """A zip archive as its directory, at its end, describes it. Use as a context manager.

    Raises UnreadableArtifact for an archive that is damaged, or that two readers could read differently.
    """

    def __init__(self, file: Path | BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise damaged(str(error)) from error
        names = self._zip.namelist()
        if len(names) > MEMBERS_MAX:
            self._zip.close()
            raise damaged(f"it has {len(names)} members")
        twice = [name for name, number in Counter(names).items() if number > 1]
        if twice:
            self._zip.close()
            raise damaged(f"it has `{twice[0][:100]}` more than once")
        self.names: Final = frozenset(names)

    def __enter__(self) -> ZipFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Read one member, whole. Raises UnreadableArtifact if it expands beyond the limit, whatever its head says."""
        content = self._head(name, limit_bytes + 1)
        if len(content) > limit_bytes:
            raise damaged(f"`{name[:100]}` expands to over {limit_bytes >> 20} MiB")
        return content

    def starts_with(self, name: str, magic: bytes) -> bool:
        """Return whether a member's content begins with `magic`. No more of it is read."""
        return self._head(name, len(magic)) == magic

    def _head(self, name: str, count: int) -> bytes:
        try:
            with self._zip.open(name) as member:
                return member.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise damaged(f"`{name[:100]}` cannot be read: {error}") from error


class Member:
    """One member of an archive as a source of bytes, held in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)
        self._size = len(content)
        self.read: Callable[[int], bytes] = self._content.read
        self.readline: Callable[[int], bytes] = self._content.readline

    @property
    def position(self) -> int | None:
        return self._content.tell()

    def skip(self, count: int) -> bool:
        return self._content.seek(count, io.SEEK_CUR) <= self._size


def damaged(reason: str) -> UnreadableArtifact:
    return UnreadableArtifact(
        f"The zip archive cannot be read: {reason}.", hint="Save the model again and upload the file."
    )
