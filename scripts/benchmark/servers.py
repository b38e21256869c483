"""What is measured, as processes of its own on loopback: a PRISM in a temporary home, and the echo beside it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prism import Model, Prism
from prism.requests import Timeouts
from scripts.benchmark.processes import cpu_seconds, tree_cpu_seconds

CHECKOUT = Path(__file__).resolve().parents[2]
KEY = "bench"
START_SECONDS = 60
ECHO = CHECKOUT / "scripts" / "peers" / "echo"
"""The echo that the peers are measured beside, too."""


class Reference:
    """A server that serves no model."""

    def __init__(self, port: int, pid: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.pid = pid

    def cpu_seconds(self, name: str) -> tuple[float, float]:
        """Return CPU seconds like a gateway, for any name; there are no replicas."""
        return cpu_seconds(self.pid), 0.0


class Gateway:
    """A running PRISM and the models it serves."""

    def __init__(self, target: str, home: Path, port: int, pid: int, client: Prism) -> None:
        self.target = target
        self.home = home
        self.port = port
        self.pid = pid
        self.client = client
        self._replica_pids: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def predict_url(self, name: str) -> str:
        return f"{self.url}/models/{name}/predict"

    def deploy(self, file: Path, name: str) -> Model:
        model = self.client.deploy(file, name=name)
        self._replica_pids[name] = _replica_pid(model)
        return model

    def wait_until_live(self, name: str) -> None:
        """For a model that a restarted gateway brings back by itself."""
        deadline = time.monotonic() + START_SECONDS
        while (model := self.client.models.get(name)).status != "live":
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {name} is {model.status} after {START_SECONDS} s")
            time.sleep(0.05)
        self._replica_pids[name] = _replica_pid(model)

    def cpu_seconds(self, name: str) -> tuple[float, float]:
        """Used so far by the gateway's process, and by the replica of a model."""
        return cpu_seconds(self.pid), tree_cpu_seconds(self._replica_pids[name])

    def remove_models(self) -> None:
        for model in self.client.models.list():
            self.client.models.delete(model.model_id)


@contextmanager
def gateway(target: str, home: Path, environments: Path, **settings: str) -> Iterator[Gateway]:
    """A PRISM with a key, a rate limit that is counted but never reached, and no conversion of models.

    environments: kept by the caller, so that each is built once.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    own = {
        "PRISM_HOME": str(home),
        "PRISM_PORT": str(port),
        "PRISM_TARGET": target,
        "PRISM_ENVIRONMENT_ROOT": str(environments),
        "PRISM_API_KEYS": KEY,
        "PRISM_RATE_LIMIT_REQUESTS": "1000000000",
        "PRISM_SINGLE_ACTIVE_MODEL": "false",
        "PRISM_ACCELERATE": "off",
        **settings,
    }
    command = [sys.executable, "-m", "app.serve"]
    environ = {**_bare_environ(), **own, "PYTHONPATH": str(CHECKOUT)}
    with (
        _running(command, environ, port, home / "server.log") as pid,
        Prism(f"http://127.0.0.1:{port}", api_key=KEY, timeouts=Timeouts(deploy_seconds=900)) as client,
    ):
        running = Gateway(target, home, port, pid, client)
        try:
            yield running
        finally:
            if target == "docker":
                running.remove_models()


@contextmanager
def echo(folder: Path) -> Iterator[Reference]:
    """A bare ASGI application under uvicorn (uvloop, httptools) that sends back what it gets."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(ECHO), "--loop", "uvloop", "--http"]
    command += ["httptools", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    with _running(command, _bare_environ(), port, folder / "echo.log") as pid:
        yield Reference(port, pid)


@contextmanager
def floor(folder: Path) -> Iterator[Reference]:
    """See floor.py."""
    port = free_port()
    command = [sys.executable, "-m", "scripts.benchmark.floor", str(port)]
    environ = {**_bare_environ(), "PYTHONPATH": str(CHECKOUT)}
    with _running(command, environ, port, folder / "floor.log") as pid:
        yield Reference(port, pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], environ: dict[str, str], port: int, log: Path) -> Iterator[int]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=log.parent, env=environ, stdout=output, stderr=output)
    try:
        _wait_until_open(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        process.wait(120)


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: a server did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.05)


def _bare_environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "MODEL_"))}


def _replica_pid(model: Model) -> int:
    """On this host, also of a container's first process."""
    replica = model.document["replica"]
    if replica["target"] != "docker":
        return int(replica["pid"])
    command = ["docker", "inspect", "--format", "{{.State.Pid}}", replica["id"]]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
