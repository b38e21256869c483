"""The PRISM that is attacked: a server of this checkout, in a folder of its own, on a free port of loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil

from scripts.benchmark.servers import CHECKOUT, free_port

START_SECONDS = 60.0
ADMIN_KEY = "canary-admin-key"
API_KEY = "canary-api-key"
SECRETS = {
    "PRISM_ADMIN_KEYS": ADMIN_KEY,
    "PRISM_API_KEYS": API_KEY,
    "NGROK_AUTHTOKEN": "canary-ngrok-token",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-secret",
}
"""What a model must never see."""


class Attacked:
    """A running server. http: as its admin."""

    def __init__(self, home: Path, target: str, environments: Path, **settings: str) -> None:
        self.home = home
        self.target = target
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, headers={"X-API-Key": ADMIN_KEY}, timeout=600, trust_env=False)
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("PRISM_", "MODEL_"))}
        self._environ = {
            **bare,
            **SECRETS,
            "PRISM_HOME": str(home),
            "PRISM_PORT": str(self.port),
            "PRISM_TARGET": target,
            "PRISM_ENVIRONMENT_ROOT": str(environments),
            "PRISM_SINGLE_ACTIVE_MODEL": "false",
            "PRISM_RATE_LIMIT_REQUESTS": "1000000000",
            "PRISM_ACCELERATE": "off",
            "PYTHONPATH": str(CHECKOUT),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.target == "docker" and self.is_alive:
            self.remove_models()
        self.stop()
        self.http.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def memory_mb(self) -> int:
        """What the gateway's process takes now."""
        return int(psutil.Process(self.pid).memory_info().rss) >> 20

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.serve"], cwd=self.home, env=self._environ, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.http.get("/health").status_code == 200:
                    return
            except httpx2.TransportError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"attack: the server did not start; see {self.home}/server.log") from None
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(120)

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def revive(self) -> None:
        """Start it again if an attack has ended it."""
        if not self.is_alive:
            self.start()

    def deploy(self, file: Path, name: str, **fields: str) -> dict[str, Any]:
        """Upload a model that is expected to live."""
        with file.open("rb") as content:
            answer = self.http.post(
                "/models/upload-and-run", data={"model_name": name, **fields}, files={"file": (file.name, content)}
            )
        if answer.status_code != 201:
            raise SystemExit(f"attack: {name} was not deployed: {answer.text[:500]}")
        document: dict[str, Any] = answer.json()
        return document

    def remove_models(self) -> None:
        for model in self.http.get("/models").json()["models"]:
            self.http.delete(f"/models/{model['model_id']}")
