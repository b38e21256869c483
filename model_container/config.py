"""What a runtime is told at its start: one JSON object in the environment variable PRISM_RUNTIME.

Whoever starts a runtime (the process target, a generated Dockerfile, `docker run` by hand) writes it with
`RuntimeConfig.to_json`; the runtime reads it once, removes it from its environment, and only then loads the model.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

VARIABLE = "PRISM_RUNTIME"


@dataclass(frozen=True)
class Confinement:
    """Which walls the runtime raises around itself before it loads the model; see confine.py.

    namespaces: own user, network, mount, pid and ipc namespaces (the process target; a container has its own).
    readable: paths it may read and execute from; None leaves the file system as it is (a container's is closed).
    writable: paths it may also write to. memory_mb, pids, file_mb: resource limits, 0 for none.
    seccomp: refuse new network sockets and the system calls that no model needs.
    """

    namespaces: bool = False
    readable: list[str] | None = None
    writable: list[str] = field(default_factory=list)
    memory_mb: int = 0
    pids: int = 0
    file_mb: int = 0
    seccomp: bool = True


@dataclass(frozen=True)
class RuntimeConfig:
    """artifact: path of the model file. format: pickle, joblib, onnx or accelerated. code: folder of the owner's Python files.

    socket: Unix socket to listen on ("" for none). host, port: TCP address to listen on (port 0 for none).
    token: what a connection must say in HELLO; "" lets anyone in (an image run by hand). threads: for the
    model's own parallelism (OpenMP, BLAS, onnxruntime).
    """

    artifact: str
    format: str
    code: str = ""
    socket: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    threads: int = 1
    confinement: Confinement = field(default_factory=Confinement)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RuntimeConfig:
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "confinement": Confinement(**values.get("confinement", {}))})

    @classmethod
    def from_environment(cls) -> RuntimeConfig:
        """Takes the variable out of the environment, so that the model's code does not find it there."""
        return cls.from_json(os.environ.pop(VARIABLE))
