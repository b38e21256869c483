"""The keys made while the server runs: a JSON file beside the registry, which holds digests and never a key.

A revocation holds at once, whatever the disk does. Where the file cannot be written anew, the key's digest in it is
overwritten where it stands, which takes no room; where even that fails, the file is written again until it succeeds.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
import structlog
from msgspec import Meta, Struct

from app.core.atomic_file import write_atomic
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.os_errors import log_fields
from app.errors import BadInput, NotFound
from app.registry.unsaved import Unsaved

log = structlog.get_logger(__name__)

PREFIX = "prism_"
KEY_BYTES = 32
HINT_LENGTH = 4
NAME_LENGTH_MAX = 100
VOID = "0" * 64
"""In the place of a digest: no key is known to have it, and an entry that has it is none."""


class KeyEntry(Struct, frozen=True):
    """One key, but for itself. digest: its SHA-256 in hexadecimal; a key is 32 random bytes, so that it tells nothing.

    hint: its last characters, by which its holder knows it again.
    """

    id: str
    name: str
    created_at: str
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    hint: str


class KeyListener(Protocol):
    """Who lets in the callers with these keys (`app.access.admission.Keys`). digest: as in a KeyEntry."""

    def add(self, id: str, digest: str) -> None: ...

    def remove(self, id: str) -> None: ...


class _File(Struct):
    """What the file holds. format: raised when an older PRISM could not read it."""

    keys: list[KeyEntry]
    format: int = 1


class KeyStore:
    """Keys by id, written through. Few and rarely changed, so a write may hold up the event loop for its fsync."""

    def __init__(self, path: Path, unsaved: Unsaved | None = None) -> None:
        self._path = path
        self._unsaved = unsaved or Unsaved()
        self._entries: dict[str, KeyEntry] = {}
        self._told: list[KeyListener] = []

    def load(self) -> None:
        """Read the file. One that is damaged is set aside, and none of its keys is valid any more."""
        try:
            entries = read_json(self._path.read_bytes(), _File).keys
        except FileNotFoundError:
            return
        except ForeignJsonError as error:
            aside = self._path.with_name(f"{self._path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
            self._path.rename(aside)
            log.error("the keys cannot be read; their file was set aside", path=str(aside), error=str(error))
            return
        for entry in entries:
            if entry.digest != VOID:
                self._take(entry)

    @property
    def saved(self) -> bool:
        """False while a key is revoked here and still stands in the file: a restart would let it in again."""
        return self._path not in self._unsaved

    def tell(self, who: KeyListener) -> None:
        """Of every key that is here, and from now on of each that comes and goes."""
        self._told.append(who)
        for entry in self._entries.values():
            who.add(entry.id, entry.digest)

    def entries(self) -> tuple[KeyEntry, ...]:
        """In the order in which they were made."""
        return tuple(self._entries.values())

    def create(self, name: str) -> tuple[KeyEntry, str]:
        """Make a key; the second is the key itself, which cannot be had again.

        Raises BadInput for a bad name, OSError where it cannot be recorded; then there is no such key.
        """
        key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        entry = KeyEntry(
            id=f"key_{secrets.token_hex(6)}",
            name=checked_name(name),
            created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            digest=sha256(key.encode()).hexdigest(),
            hint=key[-HINT_LENGTH:],
        )
        try:
            self._write([*self._entries.values(), entry])
        except OSError as error:
            if not self._void(entry):  # the file may be in its place already, and only not known to be safe there
                self._unsaved.add(self._path, self._write_again, error)
            raise
        self._take(entry)
        return entry, key

    def revoke(self, id: str) -> KeyEntry:
        """From now on it opens nothing; see `saved` for what a restart would say. Raises NotFound."""
        entry = self._entries.pop(id, None)
        if entry is None:
            raise NotFound(f"There is no key `{id[:100]}`.", hint="GET /keys lists them; so does `prism keys ls`.")
        for who in self._told:  # before the disk, which may be full
            who.remove(id)
        try:
            self._write([*self._entries.values()])
        except OSError as error:
            if self._void(entry):
                log.warning("a revoked key was made void where it stands", id=id, **log_fields(error))
            else:
                self._unsaved.add(self._path, self._write_again, error)
        return entry

    async def _write_again(self) -> None:
        self._write([*self._entries.values()])

    def _take(self, entry: KeyEntry) -> None:
        self._entries[entry.id] = entry
        for who in self._told:
            who.add(entry.id, entry.digest)

    def _write(self, entries: list[KeyEntry]) -> None:
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(_File(entries))))
        self._unsaved.saved(self._path)

    def _void(self, entry: KeyEntry) -> bool:
        """Whether the file on disk lets it in no more."""
        try:
            place = self._path.read_bytes().find(entry.digest.encode())
            if place >= 0:
                with self._path.open("r+b", buffering=0) as file:
                    os.pwrite(file.fileno(), VOID.encode(), place)
                    os.fsync(file.fileno())
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def checked_name(name: str) -> str:
    """Raises BadInput for one that cannot be told from another by a person."""
    name = name.strip()
    if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise BadInput(
            f"{name[:NAME_LENGTH_MAX]!r} is no name for a key.",
            hint=f"Give one of 1 to {NAME_LENGTH_MAX} printable characters that says who will use it.",
        )
    return name
