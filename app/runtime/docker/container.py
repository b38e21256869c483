"""Describes a replica's container as values: how it is to be created, and what an inspection of it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from app.core.address import LOOPBACK, Address
from app.core.model import Limits, ModelVersion, Replica, Variant, VariantName
from app.runtime.docker.context import ENVIRONMENT_PLACE, NOBODY, PORT, RUNTIME_PLACE, place_of
from app.runtime.docker.gpu import device_requests
from app.runtime.runtime_config import contract_of, execution_of
from app.runtime.target import ReplicaState
from model_container.contract.config import VARIABLE, Confinement, RuntimeConfig

DOCKER = "docker"
"""Name of the target."""

HOME_LABEL = "prism.home"
MODEL_LABEL = "prism.model_id"
SOCKET_PLACE = "/run/prism"
SOCKET = f"{SOCKET_PLACE}/model.sock"
MIB = 1 << 20
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


class Plan(Struct, frozen=True):
    """One container to be. has_socket: whether the gateway may look for one inside; see sockets.py."""

    name: str
    home: str
    network: str
    image: str
    model: ModelVersion
    variant: Variant
    folder: Path
    limits: Limits
    has_socket: bool
    token: str
    started_at: str

    @property
    def socket(self) -> str:
        return SOCKET if self.has_socket else ""

    def labels(self) -> dict[str, str]:
        """Return the labels of the container: all that a later gateway needs to reach it and to end it."""
        return {
            HOME_LABEL: self.home,
            MODEL_LABEL: self.model.model_id,
            "prism.form": self.variant.name,
            "prism.folder": str(self.folder / self.variant.log_folder),
            "prism.socket": self.socket,
            "prism.token": self.token,
            "prism.started_at": self.started_at,
        }

    def runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(
            artifact=f"{RUNTIME_PLACE}/artifact/{place_of(self.variant)}",
            format=self.variant.format.value,
            code=f"{RUNTIME_PLACE}/code" if self.variant.code and (self.folder / "code").is_dir() else "",
            environment=ENVIRONMENT_PLACE,
            socket=self.socket,
            host="0.0.0.0",
            port=PORT,
            token=self.token,
            call=contract_of(self.model, self.variant),
            **execution_of(self.model, self.variant, self.limits),
            # A container brings namespaces and a root of its own. seccomp refuses every connect(), so that
            # nothing gets out even to this machine's own addresses, which no network setting of Docker shuts.
            confinement=Confinement(
                namespaces=False, readable=None, seccomp=True, cgroup="engine", file_mb=self.limits.memory_mb
            ),
        )

    def options(self) -> dict[str, Any]:
        """Return the arguments for docker-py's `containers.create`."""
        config = self.runtime_config()
        memory_bytes = self.limits.memory_mb * MIB
        return {
            "image": self.image,
            "name": self.name,
            "labels": self.labels(),
            "environment": {
                VARIABLE: config.to_json(),
                "HOME": "/tmp",
                **dict.fromkeys(THREAD_VARIABLES, str(config.threads)),
            },
            "user": ":".join(map(str, runtime_user())),
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": self.limits.pids,
            "mem_limit": memory_bytes,
            "memswap_limit": memory_bytes,
            "nano_cpus": round(self.limits.cpus * 1e9),
            "device_requests": device_requests(self.model.spec.execution.gpus) if config.gpu else [],
            "ulimits": [{"name": "fsize", "soft": memory_bytes, "hard": memory_bytes}],
            "tmpfs": self._in_memory(),
            # docker-init collects what a model's processes leave behind, and hands SIGTERM on.
            "init": True,
            "network": self.network,
            "ports": {f"{PORT}/tcp": (LOOPBACK, None)},
            "restart_policy": {"Name": "no"},
            "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
        }

    def _in_memory(self) -> dict[str, str]:
        """Return all that the container may write to: folders of its own, bounded, and counted to its memory."""
        alone = "rw,noexec,nosuid,nodev"
        user, group = runtime_user()
        folders = {"/tmp": f"{alone},mode=1777,size={max(64, self.limits.memory_mb // 4)}m"}
        if self.has_socket:
            folders[SOCKET_PLACE] = f"{alone},mode=0700,uid={user},gid={group},size=64k,nr_inodes=16"
        return folders


def runtime_user() -> tuple[int, int]:
    """Return the user and group of a replica: the gateway's own, so that both reach the socket, but never root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)


def replica_of(inspection: Mapping[str, Any]) -> Replica | None:
    """Return the replica in a container; None if its labels are not a replica's.

    Its socket is named as sockets.py reaches it.
    """
    labels = inspection["Config"].get("Labels") or {}
    try:
        return Replica(
            model_id=labels[MODEL_LABEL],
            target=DOCKER,
            id=inspection["Id"],
            token=labels["prism.token"],
            started_at=labels["prism.started_at"],
            address=address_of(inspection, has_socket=labels["prism.socket"] == SOCKET),
            image=inspection["Config"]["Image"],
            pid=inspection["State"]["Pid"],
            variant=VariantName(labels.get("prism.form", VariantName.ORIGINAL)),
        )
    except (KeyError, ValueError):
        return None


def address_of(inspection: Mapping[str, Any], *, has_socket: bool) -> Address:
    """Return where a container is reached from this machine; an empty address while it does not run.

    Its socket is named by the root of the container's first process, its port is the published one.
    """
    pid = inspection["State"]["Pid"]
    socket = f"/proc/{pid}/root{SOCKET}" if has_socket and pid else ""
    published = inspection["NetworkSettings"]["Ports"].get(f"{PORT}/tcp")
    if not published:
        return Address(socket)
    return Address(socket, published[0].get("HostIp") or LOOPBACK, int(published[0]["HostPort"]))


def state_of(inspection: Mapping[str, Any]) -> ReplicaState:
    """Return the state as far as the engine knows it. Only the system sees whether a signal stopped a process of it."""
    state = inspection["State"]
    if state["Running"]:
        paused = bool(state["Paused"])
        return ReplicaState(running=True, frozen=paused, detail="paused (docker pause)" if paused else "running")
    detail = _exit_reason(state, inspection["HostConfig"]["Memory"] // MIB)
    return ReplicaState(running=False, detail=detail, out_of_memory=bool(state["OOMKilled"]))


def _exit_reason(state: Mapping[str, Any], limit_mb: int) -> str:
    code = state["ExitCode"]
    if state["OOMKilled"]:
        return f"killed by the out-of-memory killer (limit {limit_mb} MiB)"
    if state.get("Error"):
        return f"could not be started: {state['Error']}"
    return f"killed by signal {code - 128}" if code > 128 else f"exited with code {code}"
