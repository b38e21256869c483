"""Registry of what runs on this host: a JSON file that survives crashes of the gateway and of the machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from app.core.address import with_address
from app.core.atomic_file import holds, write_atomic
from app.core.model import Deployment
from app.core.os_errors import log_fields
from app.errors import Conflict
from app.registry.unsaved import Unsaved

log = structlog.get_logger(__name__)


FORMAT = 3
"""Version of the file format. In format 1 a deployment had one `replica`, or null. In both earlier formats a replica had
`socket` and `port` in place of `address`.
"""


class _File(Struct):
    """Contents of the registry file. format: raised whenever an older PRISM could not read the file."""

    deployments: dict[str, Deployment]
    format: int = FORMAT


def _read(content: bytes) -> dict[str, Deployment]:
    """Decode a registry file of this format or an earlier one.

    Raises MsgspecError, UnicodeDecodeError or RecursionError if the content is neither.
    """
    file = msgspec.json.decode(content, type=dict[str, Any])
    if file.get("format", 1) != FORMAT:
        earlier = msgspec.convert(file.get("deployments"), dict[str, dict[str, Any]])
        file["deployments"] = {key: {**entry, "replicas": _replicas(entry)} for key, entry in earlier.items()}
    return msgspec.convert(file, _File).deployments


def _replicas(entry: dict[str, Any]) -> list[Any]:
    """Return the replicas of a deployment that an earlier PRISM wrote, each with its `address`."""
    only = entry.get("replica")
    replicas = entry.get("replicas", [] if only is None else [only])
    return [with_address(replica) for replica in msgspec.convert(replicas, list[Any])]


def _encode(deployments: dict[str, Deployment]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_File(deployments)))


class ContainersFile:
    """Deployments by model_id, backed by a file. A lock file beside it lets only one server at a time use it.

    The copy in memory is authoritative: a change that cannot be written is retried until it is on disk, see `Unsaved`.
    """

    def __init__(self, path: Path, unsaved: Unsaved | None = None) -> None:
        self._path = path
        self._unsaved = unsaved or Unsaved()
        self._deployments: dict[str, Deployment] = {}
        self._writing = asyncio.Lock()
        self._lock_file: int | None = None

    def acquire(self) -> None:
        """Lock the registry for this server. Raises Conflict if another server holds the lock."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise Conflict(
                f"Another PRISM server (process {holder or 'unknown'}) uses the registry {self._path}.",
                hint="Stop it (`prism stop`, or Ctrl-C in its terminal), or give this one its own MODEL_CONTAINER_REGISTRY_PATH.",
            ) from None
        self._lock_file = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except OSError as error:  # the lock is held all the same; only the holder's process id is missing
            log.warning("the registry's lock could not be written to", **log_fields(error))

    def release(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def load(self) -> bool:
        """Read the file. Returns False if it was corrupt: the file is then set aside and the registry starts empty."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return True
        try:
            self._deployments = _read(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            aside = self._path.with_name(f"{self._path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
            self._path.rename(aside)
            log.error("the registry cannot be read; its file was moved aside", path=str(aside), error=str(error))
            return False
        return True

    def get(self, model_id: str) -> Deployment | None:
        return self._deployments.get(model_id)

    def all(self) -> tuple[Deployment, ...]:
        return tuple(self._deployments.values())

    async def add(self, deployment: Deployment) -> None:
        """Add a new deployment. Raises OSError if it cannot be written; the deployment is then not added."""
        self._deployments[deployment.model_id] = deployment
        try:
            await self._write()
        except OSError:
            self._deployments.pop(deployment.model_id, None)
            raise

    async def save(self, *deployments: Deployment) -> None:
        """Replace deployments, all in one write.

        Readers see them at once; they are on disk when this returns, or as soon as a retry succeeds.
        """
        self._deployments.update({deployment.model_id: deployment for deployment in deployments})
        await self._write_or_owe()

    async def remove(self, model_id: str) -> None:
        """Remove a deployment. Readers see this at once; the disk follows as described for `save`."""
        if self._deployments.pop(model_id, None) is not None:
            await self._write_or_owe()

    async def _write_or_owe(self) -> None:
        try:
            await self._write()
        except OSError as error:
            self._unsaved.add(self._path, self._write, error)

    async def _write(self) -> None:
        # Write in a separate task: if the caller is cancelled, a later write must still not overtake this one.
        await asyncio.shield(asyncio.create_task(self._write_in_turn()))

    async def _write_in_turn(self) -> None:
        async with self._writing:
            content = await asyncio.to_thread(_encode, dict(self._deployments))
            try:
                await asyncio.to_thread(write_atomic, self._path, content)
            except OSError as error:
                if holds(self._path, content):
                    self._unsaved.add(self._path, self._write, error)
                raise
            self._unsaved.saved(self._path)
