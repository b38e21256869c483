"""API keys made while the server runs, in a JSON file beside the registry. The file holds digests, never a key.

A revocation takes effect at once, even if the disk fails. If the file cannot be rewritten, the key's digest is
overwritten in place, which needs no free space. If that fails too, the file is written again until it succeeds.
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
"""Placeholder for the digest of a revoked key: no known key has this digest, and entries with it are ignored."""


class KeyEntry(Struct, frozen=True):
    """Record of one API key, without the key itself.

    digest: the key's SHA-256 in hexadecimal. A key is 32 random bytes, so the digest does not reveal it.
    hint: the key's last characters, by which its holder can recognize it.
    """

    id: str
    name: str
    created_at: str
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    hint: str


class KeyListener(Protocol):
    """Listener that keeps the set of accepted keys (`app.access.keys.Keys`). digest: as in a KeyEntry."""

    def add(self, id: str, digest: str) -> None: ...

    def remove(self, id: str) -> None: ...


class _File(Struct):
    """Contents of the key file. format: raised whenever an older PRISM could not read the file."""

    keys: list[KeyEntry]
    format: int = 1


class KeyStore:
    """API keys by id, written through to the file.

    Keys are few and rarely change, so a write may block the event loop for the duration of its fsync.
    """

    def __init__(self, path: Path, unsaved: Unsaved | None = None) -> None:
        self._path = path
        self._unsaved = unsaved or Unsaved()
        self._entries: dict[str, KeyEntry] = {}
        self._listeners: list[KeyListener] = []

    def load(self) -> None:
        """Read the file. A damaged file is set aside, and none of its keys is valid any more."""
        try:
            entries = read_json(self._path.read_bytes(), _File).keys
        except FileNotFoundError:
            return
        except ForeignJsonError as error:
            aside = self._path.with_name(f"{self._path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
            self._path.rename(aside)
            log.error("the keys cannot be read; their file was moved aside", path=str(aside), error=str(error))
            return
        for entry in entries:
            if entry.digest != VOID:
                self._take(entry)

    @property
    def saved(self) -> bool:
        """False while a key is revoked in memory and still valid in the file: a restart would accept it again."""
        return self._path not in self._unsaved

    def tell(self, who: KeyListener) -> None:
        """Register a listener: report every existing key to it now, and each later addition and removal."""
        self._listeners.append(who)
        for entry in self._entries.values():
            who.add(entry.id, entry.digest)

    def entries(self) -> tuple[KeyEntry, ...]:
        """Return the entries in the order in which the keys were made."""
        return tuple(self._entries.values())

    def create(self, name: str) -> tuple[KeyEntry, str]:
        """Make a key and return its entry and the key itself, which cannot be retrieved again.

        Raises BadInput for an invalid name, and OSError if the key cannot be recorded; then no key exists.
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
            if not self._void(entry):  # the file may have been replaced already, with only its fsync failing
                self._unsaved.add(self._path, self._write_again, error)
            raise
        self._take(entry)
        return entry, key

    def revoke(self, id: str) -> KeyEntry:
        """Revoke a key at once; `saved` says whether a restart would honour that too. Raises NotFound."""
        entry = self._entries.pop(id, None)
        if entry is None:
            raise NotFound(f"There is no key `{id[:100]}`.", hint="`prism keys ls` lists all keys.")
        for listener in self._listeners:  # before writing, since the disk may be full
            listener.remove(id)
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
        for listener in self._listeners:
            listener.add(entry.id, entry.digest)

    def _write(self, entries: list[KeyEntry]) -> None:
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(_File(entries))))
        self._unsaved.saved(self._path)

    def _void(self, entry: KeyEntry) -> bool:
        """Overwrite the entry's digest in the file. Returns whether the file on disk no longer accepts the key."""
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
    """Return the name stripped. Raises BadInput unless it has 1 to NAME_LENGTH_MAX printable characters."""
    name = name.strip()
    if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise BadInput(
            f"{name[:NAME_LENGTH_MAX]!r} is not a valid name for a key.",
            hint=f"Give a name of 1 to {NAME_LENGTH_MAX} printable characters that says who will use the key.",
        )
    return name
