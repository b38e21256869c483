"""Configuration of a runtime at its start: one JSON object in the environment variable PRISM_RUNTIME.

Whoever starts a runtime (the process target, a generated Dockerfile, `docker run` by hand) writes it with
`RuntimeConfig.to_json`. The runtime reads it once, removes it from its environment, and only then loads the model.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from model_container.contract.audio_input import DeclaredAudio
from model_container.contract.image_input import DeclaredImage

VARIABLE = "PRISM_RUNTIME"
MAIN_MODULES = "main_modules.txt"
"""The file in the folder of code that lists the modules which define what the model takes from `__main__`."""

VERTEX_PREDICT = "/v1/models/model:predict"


@dataclass(frozen=True)
class Confinement:
    """Sandbox that the runtime sets up around itself before it loads the model; see confine.py.

    namespaces: own user, network, mount, pid and ipc namespaces (for the process target; a container has its own).
    readable: paths it may read and execute from; None leaves the file system as it is (a container's is closed).
    writable: paths it may also write to. memory_mb, pids, file_mb: resource limits, 0 for none. seccomp: refuse new
    network sockets and the system calls that no model needs. background: yield the CPU to every other process that
    wants it.

    cgroup: version of the control group that limits the runtime, "engine" for a container's own, "" if there is none.
    controllers: which of memory, pids and cpu that group limits. The following are file descriptors, -1 for none. join:
    cgroup.procs of each group to join. kills, peak: files from which the supervisor reads how the replica ended and its
    peak memory. end: file to which the supervisor writes both. go: pipe that signals that the replica is recorded, so
    that a later gateway finds it.
    """

    namespaces: bool = False
    readable: list[str] | None = None
    writable: list[str] = field(default_factory=list)
    memory_mb: int = 0
    pids: int = 0
    file_mb: int = 0
    seccomp: bool = True
    cgroup: str = ""
    controllers: list[str] = field(default_factory=list)
    join: list[int] = field(default_factory=list)
    kills: int = -1
    peak: int = -1
    end: int = -1
    background: bool = False
    go: int = -1


@dataclass(frozen=True)
class PredictContract:
    """Owner's declaration of how the model is called, where the artifact says nothing or something else.

    method: of the object, "" for the usual one. batchable: whether rows of several requests may share one call. inputs,
    outputs: as in a signature. image, audio: how pictures or sounds become the input, None for what the signature
    implies. source: the file that contains the declaration. strict: whether declared inputs of a model that knows its own are an error;
    otherwise they are ignored.
    """

    method: str = ""
    batchable: bool | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    image: DeclaredImage | None = None
    audio: DeclaredAudio | None = None
    source: str = ""
    strict: bool = True


AS_USUAL = PredictContract()


@dataclass(frozen=True)
class RuntimeConfig:
    """Configuration of a runtime.

    artifact: path of the model file, or of its folder. format: names the adapter. code: folder of the owner's Python
    files. environment: folder of the model's packages, "" if the Python that was started has them.

    socket: Unix socket to listen on, "" for none. host, port: TCP address to listen on, port 0 for none. token: what a
    client must send in HELLO; "" admits anyone (an image run by hand). threads: number for the model's own parallelism
    (OpenMP, BLAS, onnxruntime). gpu: whether the runtime was given a GPU. execution_providers: of onnxruntime, best
    first, [] for the usual ones. call: the owner's declaration of how to call the model.
    """

    artifact: str
    format: str
    code: str = ""
    environment: str = ""
    socket: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    threads: int = 1
    gpu: bool = False
    execution_providers: list[str] = field(default_factory=list)
    call: PredictContract = field(default_factory=PredictContract)
    confinement: Confinement = field(default_factory=Confinement)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RuntimeConfig:
        values: dict[str, Any] = json.loads(text)
        call = values.get("call", {})
        image, audio = call.get("image"), call.get("audio")
        declared = {
            "image": None if image is None else DeclaredImage(**image),
            "audio": None if audio is None else DeclaredAudio(**audio),
        }
        parts = {
            "call": PredictContract(**{**call, **declared}),
            "confinement": Confinement(**values.get("confinement", {})),
        }
        return cls(**{**values, **parts})

    @classmethod
    def from_environment(cls) -> RuntimeConfig:
        """Read the configuration and remove the variable, so that the model's code does not find it in the environment.

        On Vertex, AIP_HTTP_PORT replaces the port.
        """
        config = cls.from_json(os.environ.pop(VARIABLE))
        port = os.environ.get("AIP_HTTP_PORT", "")
        return replace(config, port=int(port)) if config.port and port else config


def vertex_routes() -> dict[str, str]:
    """Return the paths that Vertex requests from an image, each with the runtime's own path that answers it."""
    routes = ((os.environ.get("AIP_HEALTH_ROUTE"), "/health"), (os.environ.get("AIP_PREDICT_ROUTE"), VERTEX_PREDICT))
    return {path: ours for path, ours in routes if path}
