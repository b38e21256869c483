"""Looks into an uploaded zip archive without unpacking it: what it holds, and single members within bounds."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Final

from app.errors import UnreadableArtifact

MEMBERS_MAX: Final = 100_000
ZIP_MAGIC: Final = b"PK\x03\x04"


class ZipFile:
    """A zip archive as its directory, at its end, describes it. Use as a context manager.

    Raises UnreadableArtifact for an archive that is damaged, or that two readers could read differently.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
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
        """One member, whole. Raises UnreadableArtifact if it expands beyond the limit, whatever its head says."""
        try:
            with self._zip.open(name) as member:
                content = member.read(limit_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise damaged(f"`{name[:100]}` cannot be read: {error}") from error
        if len(content) > limit_bytes:
            raise damaged(f"`{name[:100]}` expands to over {limit_bytes >> 20} MiB")
        return content


def damaged(reason: str) -> UnreadableArtifact:
    return UnreadableArtifact(
        f"The zip archive cannot be read: {reason}.", hint="Save the model again and upload the file."
    )
