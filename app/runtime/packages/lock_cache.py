"""Remembers resolutions: the index is asked the same question again only when its answer has grown old.

The index is not asked at all then, so a model whose environment is built goes live without a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform as machine
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

from app.core.environment import Lock, Requirements
from app.core.foreign_json import ForeignJsonError, read_json
from app.runtime.packages.index import machine_index
from app.runtime.packages.resolver import resolve
from app.runtime.target import Log


class LockCache:
    """One file in `folder` for each question. max_age_seconds: 0 asks the index every time."""

    def __init__(self, folder: Path, max_age_seconds: float) -> None:
        self._folder = folder
        self._max_age_seconds = max_age_seconds

    async def resolve(
        self, requirements: Requirements, *, log: Log, timeout_seconds: float, platform: str | None = None
    ) -> Lock:
        """Resolve as `resolver.resolve` does, which is asked if the question, the index or its configuration is new."""
        path = self._folder / f"{_question(requirements, platform)}.json"
        age_seconds = _age_seconds(path)
        if age_seconds < self._max_age_seconds and (known := _read(path)):
            log(
                f"resolved {age_seconds / 60:.0f} min ago; the index is asked again after PRISM_RESOLUTION_MAX_AGE_HOURS"
            )
            return known
        lock = await resolve(requirements, log=log, timeout_seconds=timeout_seconds, platform=platform)
        if self._max_age_seconds:
            self._remember(path, lock)
        return lock

    def _remember(self, path: Path, lock: Lock) -> None:
        """Remember a lock and forget old ones. Where nothing can be written, the next question asks the index again."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.iterdir():
                if _age_seconds(old) >= self._max_age_seconds:
                    old.unlink(missing_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(msgspec.json.encode(lock))
            unfinished.replace(path)


def _question(requirements: Requirements, platform: str | None) -> str:
    """Return a digest of the question, as the configuration of the index may hold passwords."""
    index = machine_index()
    configured = (sorted(index.variables.items()), index.no_index, index.brings_torch, index.chooses_torch)
    parts = (requirements, platform, machine.platform(), version("uv"), configured)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _age_seconds(path: Path) -> float:
    """Return the age of a file; infinite if it is missing, or was written in a future that a corrected clock undid."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
    return age if age > -1 else float("inf")


def _read(path: Path) -> Lock | None:
    try:
        return read_json(path.read_bytes(), Lock)
    except (OSError, ForeignJsonError):
        return None
