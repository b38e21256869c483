"""The process target: each replica is a child process in a sandbox of the operating system; no engine needed.

    <environments>/<lock hash>-2/                packages, shared by all models with that lock
    <run_folder>/runtime-<content hash>/         private copy of model_container/
    <run_folder>/<model_id>/<id>/replica.json    the record by which a later gateway finds the replica
    <run_folder>/<model_id>/<id>/end.json        why the replica ended, by its supervisor; see replica_end.py
    <run_folder>/<model_id>/<id>/work/           the only folder a replica may write to
    <sockets>/<hash>.sock                        its Unix socket

Where this PRISM may make control groups, one bounds the memory, the processes and the processor of each replica; see
cgroups.py. On systems other than Linux nothing keeps a model from the files and the network of its user. `prism doctor`
tries and says how far it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
from msgspec import Struct

from app.core.address import LOOPBACK, Address, with_address
from app.core.child_environment import child_environment
from app.core.environment import Lock
from app.core.folders import remove_folder
from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import Limits, ModelVersion, Replica, Variant
from app.core.os_errors import problem_of
from app.errors import BuildFailed, StartFailed
from app.runtime.logs.files import log_path, read_log, rotate
from app.runtime.logs.reader import LogLine
from app.runtime.packages.uv import find_interpreters
from app.runtime.process import tree as process_tree
from app.runtime.process.cgroups import Cgroup, Cgroups, handed_down
from app.runtime.process.cgroups import remove as remove_cgroup
from app.runtime.process.environments import Environments
from app.runtime.process.plan import ProcessPlan
from app.runtime.process.replica_end import Outside, open_end, read_end
from app.runtime.process.runtime_copy import compile_for, runtime_copy
from app.runtime.target import Log, ReplicaState, StoredImage

MAX_SOCKET_PATH_BYTES = 100  # 108 on Linux and 104 on macOS, with the final zero
POLL_SECONDS = 0.02
KILL_SECONDS = 5.0
TORSO_SECONDS = 60.0
"""Time after which a start has written its record, or was cut off."""


class Record(Struct, frozen=True):
    """The content of `replica.json`. home: label of the PRISM that it belongs to. folder: where its log is kept."""

    home: str
    replica: Replica
    folder: str
    cgroup: Cgroup | None = None


class ProcessTarget:
    """Replicas as child processes that outlive the gateway.

    sockets: a short path, made with mode 0700. home: label that tells this PRISM's replicas from another's.
    """

    name = "process"
    replica_noun = "process"
    platform: str | None = None
    offers_gpus = False

    def __init__(
        self, environments: Path, run_folder: Path, sockets: Path, build_timeout_seconds: float, home: str
    ) -> None:
        self._environments = Environments(environments, build_timeout_seconds)
        self._run_folder = run_folder
        self._sockets = sockets
        self._home = home
        self._cgroups = Cgroups(home)
        # Our own children: only their parent can collect them and learn their exit codes.
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def require_available(self) -> None:
        """Raise nothing: a process needs only what PRISM itself needs."""

    async def pythons(self) -> tuple[str, ...]:
        return tuple(await find_interpreters())

    async def build_environment(self, lock: Lock, log: Log) -> None:
        await self._environments.build(lock, log)

    async def build_model(self, model: ModelVersion, folder: Path, log: Log, variant: Variant | None = None) -> str:
        """Make the private copy of the runtime; returns "", as there are no images. Raises BuildFailed."""
        try:
            copy = await asyncio.to_thread(self._runtime)
            chosen = variant or model.variant
            if chosen:
                python = self._environments.python(chosen.lock)
                await asyncio.to_thread(compile_for, python, copy, self._environments.bytecode)
        except OSError as error:
            raise problem_of(error) or BuildFailed(
                f"The runtime could not be copied to {self._run_folder}: {error.strerror}.",
                hint="Free some disk space, or set PRISM_RUN_ROOT to a folder that can be written to.",
            ) from error
        return ""

    def _runtime(self) -> Path:
        self._run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return runtime_copy(self._run_folder)

    async def is_built(self, model: ModelVersion, variant: Variant) -> bool:
        return self._environments.is_built(variant.lock)

    async def start(self, model: ModelVersion, folder: Path, limits: Limits, variant: Variant | None = None) -> Replica:
        variant = variant or model.variant
        if model.spec.execution.gpus:
            raise StartFailed(
                f"{model.ref} needs a GPU, but the target process provides none.",
                hint="Deploy it to the target docker.",
            )
        if variant is None or not self._environments.is_built(variant.lock):
            raise StartFailed(f"The environment of {model.ref} is not built.", hint=f"Deploy {model.name} again.")
        try:
            return await asyncio.to_thread(self._start, model, variant, folder, limits)
        except OSError as error:
            raise problem_of(error) or self._not_started(model, error) from error
        except psutil.Error as error:
            raise self._not_started(model, error) from error

    def _not_started(self, model: ModelVersion, error: Exception) -> StartFailed:
        return StartFailed(
            f"The process of {model.ref} could not be started: {error}.",
            hint="Run `prism doctor` to check disk space and process limits.",
        )

    def _start(self, model: ModelVersion, variant: Variant, folder: Path, limits: Limits) -> Replica:
        """Start a replica. Whatever fails, neither a process nor a folder is left of it."""
        self._sweep(model.model_id)
        place = self._run_folder / model.model_id / secrets.token_hex(4)
        try:
            return self._start_in(place, model, variant, folder, limits)
        except BaseException:
            _remove_folder(place)
            raise

    def _start_in(self, place: Path, model: ModelVersion, variant: Variant, folder: Path, limits: Limits) -> Replica:
        place.mkdir(parents=True)
        cgroup = self._cgroups.make(place.name, limits)
        go_reader, go = os.pipe()
        try:
            with handed_down(cgroup) as handed, open_end(place) as end:
                plan = ProcessPlan(
                    model=model,
                    variant=variant,
                    folder=folder,
                    limits=limits,
                    place=place,
                    python=self._environments.python(variant.lock),
                    environment=self._environments.path(variant.lock),
                    runtime=self._runtime(),
                    address=self._address(place),
                    token=secrets.token_urlsafe(32),
                    outside=Outside(cgroup, handed, end, go_reader),
                )
                replica = self._launch(plan)
            os.write(go, b"g")
            return replica
        except BaseException:
            remove_cgroup(cgroup)
            raise
        finally:
            os.close(go_reader)
            os.close(go)

    def _launch(self, plan: ProcessPlan) -> Replica:
        """Start a planned process, and record it where a later gateway finds it. Raises OSError, psutil.Error."""
        child = _spawn(plan)
        try:
            replica = Replica(
                model_id=plan.model.model_id,
                target=self.name,
                id=process_tree.identity(child.pid),
                token=plan.token,
                started_at=datetime.now(UTC).isoformat(timespec="seconds"),
                address=plan.address,
                pid=child.pid,
                variant=plan.variant.name,
            )
            record = Record(self._home, replica, str(plan.log_folder), plan.outside.cgroup)
            _write_record(plan.place / "replica.json", record)
        except BaseException:
            _end_now(child)
            raise
        self._children[replica.id] = child
        return replica

    def _sweep(self, model_id: str) -> None:
        """Remove what is left of earlier replicas that died without a stop(), or whose start was cut off."""
        for _, record in self._records(model_id):
            if not process_tree.find(record.replica.id):
                self._clean_up(record.replica)
        for place in self._run_folder.glob(f"{model_id}/*"):
            if not (place / "replica.json").exists() and time.time() - place.stat().st_mtime > TORSO_SECONDS:
                _remove_folder(place)

    def _address(self, place: Path) -> Address:
        """Return a Unix socket, or a free port of the loopback interface where the socket's path would be too long."""
        name = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        path = self._sockets / f"{name}.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            with socket.socket() as free:
                free.bind((LOOPBACK, 0))
                return Address(host=LOOPBACK, port=int(free.getsockname()[1]))
        self._sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = self._sockets.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{self._sockets} is accessible to other users; remove it, or own it with mode 0700")
        return Address(socket=str(path))

    async def state(self, replica: Replica) -> ReplicaState:
        return await asyncio.to_thread(self._state, replica)

    def _state(self, replica: Replica) -> ReplicaState:
        process = process_tree.find(replica.id)
        if process is None:  # only now, lest it ends between the two and nobody learns its exit code
            return self._end_of(replica, self._reap(replica))
        return process_tree.observe(process)

    def _reap(self, replica: Replica) -> int | None:
        child = self._children.get(replica.id)
        return child.poll() if child else None

    def _end_of(self, replica: Replica, code: int | None) -> ReplicaState:
        """Return how a replica ended: as its supervisor told it, else by the exit code, if it was our child."""
        entry = self._find_record(replica)
        end = read_end(entry[0].parent) if entry else None
        if end:
            return ReplicaState(running=False, detail=end.reason, out_of_memory=end.out_of_memory)
        if code is None:
            return ReplicaState(running=False, detail="gone; its exit code is not known")
        signalled = code < 0 or code > 128
        number = -code if code < 0 else code - 128
        return ReplicaState(False, detail=f"killed by signal {number}" if signalled else f"exited with code {code}")

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        process = await asyncio.to_thread(process_tree.find, replica.id)
        if process:
            await self._end(process, grace_seconds)
        child = self._children.pop(replica.id, None)
        if child:
            await asyncio.to_thread(child.wait)
        await asyncio.to_thread(self._clean_up, replica)

    async def _end(self, process: psutil.Process, grace_seconds: float) -> None:
        processes = await asyncio.to_thread(process_tree.tree, process)
        process_tree.send(processes, signal.SIGCONT)  # a stopped process would not see the next one
        process_tree.send(processes[:1], signal.SIGTERM)
        if not await _ended(processes[:1], grace_seconds):
            processes += (await asyncio.to_thread(process_tree.tree, process))[1:]
        # Its parent last: it collects the others, and has then nothing left to do.
        process_tree.send(processes[1:], signal.SIGKILL)
        if not await _ended(processes, KILL_SECONDS / 5):
            process_tree.send(processes, signal.SIGKILL)
            await _ended(processes, KILL_SECONDS)

    def _clean_up(self, replica: Replica) -> None:
        if replica.address.socket:
            Path(replica.address.socket).unlink(missing_ok=True)
        entry = self._find_record(replica)
        if entry:
            remove_cgroup(entry[1].cgroup)
            _remove_folder(entry[0].parent)

    def logs(self, replica: Replica, folder: Path, tail: int, follow: bool, after: str = "") -> AsyncIterator[LogLine]:
        return read_log(log_path(folder), tail, lambda: follow and process_tree.find(replica.id) is not None, after)

    async def remove(self, model: ModelVersion, environment_in_use: bool) -> None:
        await asyncio.to_thread(_remove_folder, self._run_folder / model.model_id)
        if model.findings.lock and not environment_in_use:
            await self._environments.remove(model.findings.lock)

    async def images(self) -> tuple[StoredImage, ...]:
        return ()

    async def remove_image(self, id: str) -> bool:
        return False

    def describe_removal(self, model: ModelVersion, replicas: Sequence[Replica]) -> list[str]:
        return [f"process {replica.pid}" for replica in replicas]

    async def remove_variant(self, model: ModelVersion, variant: Variant, environment_in_use: bool) -> None:
        if not environment_in_use:
            await self._environments.remove(variant.lock)

    async def replicas(self) -> tuple[Replica, ...]:
        return await asyncio.to_thread(self._living_replicas)

    def _living_replicas(self) -> tuple[Replica, ...]:
        ours = (record.replica for _, record in self._records("*"))
        return tuple(replica for replica in ours if process_tree.find(replica.id))

    def _find_record(self, replica: Replica) -> tuple[Path, Record] | None:
        records = self._records(replica.model_id)
        return next((entry for entry in records if entry[1].replica.id == replica.id), None)

    def _records(self, model_id: str) -> list[tuple[Path, Record]]:
        """Return the records of this home. One that cannot be read is not ours."""
        records = []
        for path in self._run_folder.glob(f"{model_id}/*/replica.json"):
            try:
                record = _read_record(path)
            except (OSError, ForeignJsonError, msgspec.ValidationError):
                continue
            if record.home == self._home:
                records.append((path, record))
        return records


def _spawn(plan: ProcessPlan) -> subprocess.Popen[bytes]:
    """Start a planned process. No pipe leads to the gateway, so the gateway's death changes nothing for it."""
    plan.work.mkdir(mode=0o700)
    path = log_path(plan.log_folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    rotate(path)
    # Also readable: the supervisor keeps the end of a log that grows too large.
    with path.open("a+b") as log:
        return subprocess.Popen(
            plan.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=plan.work,
            env=child_environment(own=plan.variables()),
            start_new_session=True,
            umask=0o077,
            pass_fds=plan.outside.descriptors(),
        )


def _read_record(path: Path) -> Record:
    """Read a record, also that of an earlier PRISM. Raises OSError, ForeignJsonError, msgspec.ValidationError."""
    document = read_json(path.read_bytes(), dict[str, Any])
    return msgspec.convert({**document, "replica": with_address(document.get("replica"))}, Record)


def _write_record(path: Path, record: Record) -> None:
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _end_now(child: subprocess.Popen[bytes]) -> None:
    """Kill a process that has loaded nothing yet, and all that it started: it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


async def _ended(processes: list[psutil.Process], seconds: float) -> bool:
    """Wait until none of the processes lives, at most that long. Returns whether none does."""
    deadline = time.monotonic() + seconds
    while process_tree.living(processes):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def _remove_folder(folder: Path) -> None:
    """Remove a folder. What cannot be removed is left to the next start of the model."""
    with contextlib.suppress(OSError):
        remove_folder(folder)
