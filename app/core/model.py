"""Records of what was uploaded and of what runs. Immutable: a change makes a new record."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from app.core.environment import Lock
from app.core.inspection import Inspection
from app.core.signature import Signature


class TargetName(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"


class Status(StrEnum):
    """Where a model stands on the road artifact → service.

    BUILT: stored and built, not asked to run. UNHEALTHY: live until now, three checks failed or the replica
    is gone; it is being brought back. FAILED: a step failed for good, `error` says which and why.
    """

    RECEIVED = "received"
    INSPECTING = "inspecting"
    RESOLVING = "resolving"
    BUILDING = "building"
    BUILT = "built"
    STARTING = "starting"
    PROBING = "probing"
    LIVE = "live"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"
    FAILED = "failed"


class Artifact(Struct, frozen=True):
    """The immutable model file. filename: as uploaded, made safe; the file lies in the model's folder."""

    filename: str
    sha256: str
    size_bytes: int


class Limits(Struct, frozen=True):
    """What one replica may use. cpus: whole or part cores."""

    memory_mb: int = 2048
    cpus: float = 1.0
    pids: int = 256


class Model(Struct, frozen=True):
    """One version of a model, as stored beside its artifact in `model.json`.

    sample: a request body (JSON value in a native dialect) known to be answered.
    expected_input: the sample its owner gave, if any. unsafe_consent: when the owner accepted dangerous globals.
    code_files: names of the Python files supplied for classes the pickle takes from `__main__`.
    """

    model_id: str
    name: str
    version: str
    artifact: Artifact
    created_at: str
    description: str = ""
    target: TargetName | None = None
    requirements: str = ""
    python_version: str = ""
    expected_input: Any = None
    code_files: tuple[str, ...] = ()
    allow_unsafe: bool = False
    unsafe_consent: str = ""
    inspection: Inspection | None = None
    lock: Lock | None = None
    signature: Signature | None = None
    sample: Any = None
    runtime: dict[str, Any] = {}

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


class Replica(Struct, frozen=True):
    """One running runtime, with all that is needed to reach it, ask after it and stop it.

    id: the container id, or "<pid>:<start time>" of the process (a pid alone may be reused).
    socket: path of its Unix socket, or "" where the platform has none. port: its port on 127.0.0.1, or 0.
    token: what it wants in HELLO; never shown by the API.
    """

    model_id: str
    target: TargetName
    id: str
    token: str
    started_at: str
    socket: str = ""
    port: int = 0
    image: str = ""
    pid: int = 0


class Restart(Struct, frozen=True):
    """Why a replica was replaced. lines: what its log said last."""

    at: str
    reason: str
    lines: tuple[str, ...] = ()


class Deployment(Struct, frozen=True):
    """Wanted and real state of one model on this host, as kept in the registry."""

    model_id: str
    name: str
    version: str
    status: Status
    wanted: bool
    target: TargetName | None = None
    replica: Replica | None = None
    created_at: str = ""
    updated_at: str = ""
    live_at: str = ""
    error: dict[str, Any] | None = None
    restarts: tuple[Restart, ...] = ()
    metadata: dict[str, Any] = {}
