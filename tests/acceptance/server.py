"""A real PRISM server in a process of its own, for tests that speak only HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
_given: set[int] = set()
"""Ports that were given out here."""


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until it holds, ever less often. Raises AssertionError naming `what` if it does not in time."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
        pause = min(1.3 * pause, 0.25)


PORTS, WORKERS = 10_000, 16


def free_port() -> int:
    """Of those below the ones that the system hands out itself, and another one each time: nobody comes by it by accident
    before a server listens there, nor while that server is started again. Each worker has a share of its own.
    """
    handed_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(handed_out.read_text().split()[0]) if handed_out.exists() else 49152
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    while True:
        port = random.SystemRandom().randrange(end - PORTS, end - WORKERS, WORKERS) + worker
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Server:
    """One gateway with a home of its own. environments: shared between servers, so that each is built once.

    settings: None unsets one.
    """

    def __init__(self, home: Path, environments: Path, **settings: object) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            **{
                key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "MODEL_", "DATABASE_"))
            },
            "PRISM_HOME": str(home),
            "PRISM_ENVIRONMENT_ROOT": str(environments),
            "PRISM_PORT": str(self.port),
            "PRISM_RATE_LIMIT_REQUESTS": "0",
            "PRISM_ACCELERATE": "off",
            # A replica that a busy machine holds up for a few seconds is not a hung one.
            "PRISM_HEARTBEAT_TIMEOUT_SECONDS": "20",
            **{name: str(value) for name, value in settings.items()},
        }
        for name in (name for name, value in settings.items() if value is None):
            del self.environ[name]
        self.command = [sys.executable, "-m", "app.serve"]
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx2.Client(base_url=self.url, timeout=600, trust_env=False)

    def start(self) -> float:
        """Start it; returns how many seconds it took until it answered."""
        began = time.monotonic()
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=CHECKOUT, env=self.environ, stdout=log, stderr=log)
        wait_for(self.answers, START_SECONDS, f"the server's start ({self.log()[-2000:]})")
        return time.monotonic() - began

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended: {self.log()[-3000:]}"
        try:
            return self.http.get("/health").status_code == 200
        except httpx2.TransportError:
            return False

    def log(self) -> str:
        path = self.home / "server.log"
        return path.read_text() if path.exists() else ""

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer or a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        if self.runs:
            assert self.process is not None
            self.process.send_signal(signal_number)
            self.process.wait(60)
        self.http.close()
        self.http = httpx2.Client(base_url=self.url, timeout=600, trust_env=False)

    def upload(
        self, file: Path, path: str = "/models/upload-and-run", code: Mapping[str, bytes] | None = None, **fields: str
    ) -> httpx2.Response:
        parts: list[tuple[str, Any]] = [("file", (file.name, file.read_bytes()))]
        parts += [("code_files", each) for each in (code or {}).items()]
        return self.http.post(path, data=fields, files=parts)

    def deploy(self, file: Path, code: Mapping[str, bytes] | None = None, **fields: str) -> dict[str, Any]:
        """Upload and run; the model's document. Fails the test if it does not go live."""
        answer = self.upload(file, code=code, **fields)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def predict(self, ref: str, body: object, **params: str) -> httpx2.Response:
        return self.http.post(f"/models/{ref}/predict", json=body, params=params)

    def model(self, ref: str) -> dict[str, Any]:
        document: dict[str, Any] = self.http.get(f"/models/{ref}").json()
        return document

    def replica_processes(self) -> list[psutil.Process]:
        """Every process that runs below this server's home or names it."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.home) in " ".join([process.cwd(), *process.cmdline()]):
                    found.append(process)
            except psutil.Error:
                continue
        return [one for one in found if self.process is None or one.pid != self.process.pid]


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """The problem document of a refusal, checked to be one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = json.loads(answer.content)
    assert document.keys() >= {"type", "title", "status", "code", "detail", "request_id"}, document
    assert document["status"] == answer.status_code
    assert "Traceback" not in answer.text
    return document
