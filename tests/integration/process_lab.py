"""Real replicas on the process target for tests: one environment, and models whose code the test writes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.environment import Lock
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, Limits, ModelVersion, Replica
from app.runtime.process import tree as process_tree
from app.runtime.process.target import ProcessTarget
from model_container.contract import frames
from model_container.contract.logfile import split_timestamp
from tests.records import model_version

PACKAGES = ("msgspec", "numpy")
SECONDS = 30.0
HARMLESS = """
class Model:
    def predict(self, rows):
        return [1.0 for _ in rows]
"""


def small_lock(python: str) -> Lock:
    """What a runtime needs for a model without libraries."""
    return Lock(python=python, text="".join(f"{name}=={version(name)}\n" for name in PACKAGES))


def write_model(folder: Path, lock: Lock, code: str = HARMLESS, name: str = "intruder") -> ModelVersion:
    """A pickle of `code.ModelVersion()`; the code runs inside the replica when it is loaded."""
    (folder / "artifact").mkdir(parents=True)
    (folder / "code").mkdir()
    (folder / "code" / "code_of_model.py").write_text(code)
    (folder / "artifact" / "model.pkl").write_bytes(b"ccode_of_model\nModel\n(tR.")
    return model_version(
        model_id=f"{name}-1",
        name=name,
        version="1.0.0",
        artifact=Artifact("model.pkl", "", 0),
        created_at="2026-01-01T00:00:00Z",
        lock=lock,
        inspection=Inspection(Format.PICKLE),
    )


async def until(true: Callable[[], Awaitable[Any]], what: str, seconds: float = SECONDS) -> Any:
    """The first true answer. Fails the test at the deadline."""
    deadline = time.monotonic() + seconds
    while not (answer := await true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.02)
    return answer


@dataclass
class Lab:
    """Starts replicas of `target` and stops what a test leaves running."""

    target: ProcessTarget
    folder: Path
    lock: Lock
    started: list[Replica] = field(default_factory=list)

    async def start(self, code: str = HARMLESS, limits: Limits | None = None, name: str = "intruder") -> Replica:
        """Started, not yet loaded. Its folder is `self.folder / name`."""
        model = write_model(self.folder / name, self.lock, code, name)
        await self.target.build_model(model, self.folder / name, print)
        replica = await self.target.start(model, self.folder / name, limits or Limits(memory_mb=512, pids=64))
        self.started.append(replica)
        return replica

    async def stop_all(self) -> None:
        for replica in self.started:
            await self.target.stop(replica, 0)

    def log(self, name: str = "intruder") -> str:
        """What a replica printed, without the times."""
        path = self.folder / name / "logs" / "runtime.log"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return b"".join(split_timestamp(line)[1] for line in lines).decode()

    async def said(self, mark: str, name: str = "intruder") -> Any:
        """The JSON after `mark` in the replica's log."""

        async def found() -> list[str]:
            whole = self.log(name).rpartition("\n")[0]  # the last line may still be being written
            return [line for line in whole.splitlines() if line.startswith(mark)]

        lines = await until(found, f"a line {mark!r} in the log:\n{self.log(name)}")
        return json.loads(lines[0].removeprefix(mark))

    async def gone(self, replica: Replica) -> str:
        """Why, once it is."""

        async def detail() -> str:
            state = await self.target.state(replica)
            return "" if state.running else state.detail

        return str(await until(detail, f"{replica.id} has ended"))


async def predict(replica: Replica, body: bytes = b'{"features": [[1, 2]]}') -> bytes:
    """Connect, wait until the model is loaded, ask once."""
    address = replica.address
    opened = (
        asyncio.open_unix_connection(address.socket)
        if address.socket
        else asyncio.open_connection(address.host, address.port)
    )
    reader, writer = await opened
    try:
        hello = json.dumps({"protocol": frames.PROTOCOL, "token": replica.token}).encode()
        writer.write(frames.encode(1, frames.HELLO, hello) + frames.encode_requests(2, [frames.Request(body)]))
        cutter = frames.FrameReader()
        received: list[frames.Frame] = []
        while len(received) < 2:
            data = await asyncio.wait_for(reader.read(1 << 16), SECONDS)
            assert data, "the replica closed the connection"
            received += cutter.feed(data)
        answers, _, _ = frames.decode_answers(received[1])
        return answers[0][0]
    finally:
        writer.close()
        await writer.wait_closed()


async def connected(replica: Replica) -> bytes:
    """Connect like `predict`, waiting until the replica listens."""

    async def answer() -> bytes:
        try:
            return await predict(replica)
        except (FileNotFoundError, ConnectionRefusedError):
            return b""

    return bytes(await until(answer, "the replica answers"))


def descendants(pid: int) -> list[psutil.Process]:
    """The process and all below it that still run, itself first."""
    try:
        found = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return running(found)


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return process_tree.living(processes)


PYTHON = "{}.{}".format(*sys.version_info[:2])
HOME = f"test{os.environ.get('PYTEST_XDIST_WORKER', '')}"
"""A label for each worker: a target takes all that carries its label for its own."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def make_target(folder: Path, environments: Path, home: str = HOME, sockets: Path | None = None) -> ProcessTarget:
    return ProcessTarget(environments, folder / "run", sockets or folder / "s", 300, home)


@pytest.fixture(scope="module")
async def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One built environment for all tests that only run replicas in it."""
    root = tmp_path_factory.mktemp("environments")
    await make_target(root, root).build_environment(small_lock(PYTHON), print)
    return root
