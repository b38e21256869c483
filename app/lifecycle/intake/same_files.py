"""Files of an artifact that another version has byte for byte, kept on the disk once.

The second version's file becomes a hard link to the first one's. So the file system counts the references: a deleted
version leaves the file of the other whole, and a kill at any moment leaves each version with a whole file of its own or a
shared one. Files of artifacts are never written to: a change is a new version.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from app.core.model import Artifact, ModelVersion

BLOCK_BYTES = 1 << 20
LINK = ".same"
"""Name under which a link is made beside the file that it replaces; in a folder without a record it is removed with it."""


def keep_once(artifact: Artifact, folder: Path, others: Iterable[tuple[ModelVersion, Path]]) -> int:
    """Replace the files of a new version by links to equal ones, and return how many bytes that frees.

    folder: of the new version, which has no record yet. others: the versions there are, with their folders. Their files are
    compared byte for byte, as one that was damaged on the disk must not come into another version. Where the file system
    makes no links, the new version keeps its own files.
    """
    same = [
        (model, place)
        for model, place in others
        if (model.spec.artifact.sha256, model.spec.artifact.size_bytes) == (artifact.sha256, artifact.size_bytes)
    ]
    freed = 0
    for path in sorted((folder / "artifact").rglob("*")):
        relative = path.relative_to(folder / "artifact")
        for model, place in same:
            theirs = model.spec.artifact.filename if str(relative) == artifact.filename else relative
            size_bytes = _share(path, place / "artifact" / theirs)
            freed += size_bytes
            if size_bytes:
                break
    return freed


def _share(ours: Path, theirs: Path) -> int:
    """Make one file a link to another if they are equal. Returns its size, 0 if nothing changed."""
    link = ours.with_name(f"{ours.name}{LINK}")
    with suppress(OSError):  # it vanished, is on another disk, or has as many links as a file can have
        before, other = ours.lstat(), theirs.lstat()
        are_files = stat.S_ISREG(before.st_mode) and stat.S_ISREG(other.st_mode)
        if not are_files or not before.st_size or before.st_size != other.st_size or before.st_ino == other.st_ino:
            return 0
        link.hardlink_to(theirs)
        try:
            if not _is_equal(ours, link):
                return 0
            os.replace(link, ours)
            return before.st_size
        finally:
            link.unlink(missing_ok=True)
    return 0


def _is_equal(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(BLOCK_BYTES):
            if piece != second.read(BLOCK_BYTES):
                return False
        return not second.read(1)
