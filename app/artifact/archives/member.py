"""One member of an archive, and the refusal of an archive, for the readers of both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from app.errors import UnreadableArtifact

MEMBERS_MAX: Final = 10_000
CHUNK_BYTES: Final = 1 << 20
FACTOR: Final = 4
"""An archive may hold this many times the largest upload: weights hardly shrink when packed, tables and text do."""

PATH_BYTES_MAX: Final = 512
NAME_BYTES_MAX: Final = 200
DEPTH_MAX: Final = 32
LEFT_OUT: Final = frozenset({"__MACOSX", "__pycache__", ".DS_Store", ".git", ".ipynb_checkpoints", "Thumbs.db"})
"""Files that programs put beside a person's own; not unpacked."""


class ArchiveMember(NamedTuple):
    """One member, in the order of the archive.

    name: as written there, not looked at yet. content: its bytes, exactly `size_bytes` of them; to be read, whole,
    before the next member is asked for. Raises UnreadableArtifact where it turns out to be another number.
    """

    name: str
    is_folder: bool
    size_bytes: int
    content: Iterator[bytes]


def rejected(reason: str) -> UnreadableArtifact:
    """Make the error for an archive that is damaged, or that another program could read as something else."""
    return UnreadableArtifact(
        f"The archive is not unpacked: {reason}.",
        hint="Create it again from the model's folder, with `zip -r model.zip folder` or `tar -czf model.tar.gz folder`.",
    )


def quoted(name: str) -> str:
    """Return a member's name for a message: quoted, cut, and with what cannot be printed escaped."""
    text = ascii(name[:100]) if not name.isprintable() else name[:100]
    return f"`{text}`"


def parts_of(name: str) -> tuple[str, ...]:
    """Split a member's name into the folders and the file that it names, () for the top itself.

    Raises UnreadableArtifact for one that leads, or on some machine would lead, anywhere but down.
    """
    if name.startswith("/"):
        raise rejected(f"{quoted(name)} is an absolute path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise rejected(f"{quoted(name)} leads out of the folder")
    bad = sorted({char for char in name if char in '\\:*?"<>|' or not char.isprintable()})
    if bad:
        raise rejected(f"the name {quoted(name)} contains {' '.join(map(ascii, bad))}")
    if any(part != part.strip() or part.endswith(".") or len(part.encode()) > NAME_BYTES_MAX for part in parts):
        raise rejected(f"the name {quoted(name)} is too long, or begins or ends with a space or a dot")
    if len(parts) > DEPTH_MAX or len(name.encode()) > PATH_BYTES_MAX:
        raise rejected(f"{quoted(name)} is nested too deep")
    return parts
