"""What the readers of both kinds of archive have in common: one member, and the words for an archive that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from app.errors import UnreadableArtifact

MEMBERS_MAX: Final = 10_000
CHUNK_BYTES: Final = 1 << 20


class Entry(NamedTuple):
    """One member, in the order of the archive.

    name: as written there, not looked at yet. content: its bytes, exactly `size_bytes` of them; to be read, whole,
    before the next member is asked for. Raises UnreadableArtifact where it turns out to be another number.
    """

    name: str
    is_folder: bool
    size_bytes: int
    content: Iterator[bytes]


def refused(reason: str) -> UnreadableArtifact:
    """For an archive that is damaged, or that another program could read as something else."""
    return UnreadableArtifact(
        f"The archive is not unpacked: {reason}.",
        hint="Make it anew of the model's folder, with `zip -r model.zip folder` or `tar -czf model.tar.gz folder`.",
    )


def shown(name: str) -> str:
    """A member's name for a message: quoted, what cannot be printed escaped, and cut."""
    text = ascii(name[:100]) if not name.isprintable() else name[:100]
    return f"`{text}`"
