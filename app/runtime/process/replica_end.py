"""Hands a replica's supervisor what it needs beside the replica itself, and reads what it says at the end.

The file is opened here and handed down; the runtime closes it before anything of the model runs, and cannot open it,
since it lies outside of what it may see. It stays for a later gateway. What the log says of an end proves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from app.core.foreign_json import ForeignJsonError, read_json
from app.runtime.process.cgroups import Cgroup, Handed

NAME = "end.json"
MAX_BYTES = 4096


class ReplicaEnd(Struct, frozen=True):
    """The end of a replica, as model_container/sandbox/supervisor.py writes it. peak_memory_bytes: 0 if not known."""

    reason: str
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    peak_memory_bytes: int = 0


class Outside(Struct, frozen=True):
    """The means that a replica is given from outside its sandbox.

    cgroup: the group that the runtime is to join, or None. end: descriptor of the file for its end. go: descriptor of
    a pipe at which it waits until its record is written.
    """

    cgroup: Cgroup | None
    handed: Handed
    end: int = -1
    go: int = -1

    def descriptors(self) -> tuple[int, ...]:
        return (*self.handed.all(), self.end, self.go)

    def fields(self) -> dict[str, Any]:
        """Return it as fields of `Confinement`."""
        return {
            "cgroup": self.cgroup.version if self.cgroup else "",
            "controllers": list(self.cgroup.folders) if self.cgroup else [],
            "join": list(self.handed.join),
            "kills": self.handed.kills,
            "peak": self.handed.peak,
            "end": self.end,
            "go": self.go,
        }


@contextmanager
def open_end(place: Path) -> Iterator[int]:
    """Open the file for the end of a replica. place: the replica's folder. Raises OSError."""
    descriptor = os.open(place / NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_end(place: Path) -> ReplicaEnd | None:
    """Read the end of a replica; None while it lives, and where its supervisor was killed before it could say."""
    try:
        with (place / NAME).open("rb") as file:
            return read_json(file.read(MAX_BYTES), ReplicaEnd)
    except (OSError, ForeignJsonError):
        return None
