"""Kill -9 of one replica each second, at a constant rate of requests: how many callers noticed, and how soon all serve.

    .venv/bin/python -m scripts.attack.replica_kills --seconds 300 --replicas 2 --rate 200

A gateway of its own on a port of the loopback interface, with a home that is removed afterwards. The load is an open
loop: a request that waits while no replica is there counts from when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import joblib
import psutil
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from prism.load import load

ROOT = Path(__file__).resolve().parents[2]
BODY = b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'
CONNECTIONS = 512
"""More than wait at a time: two seconds without a replica at 200 requests a second are 400."""

START_SECONDS = 60.0
READY_SECONDS = 60.0
POLL_SECONDS = 0.02


def run(seconds: int = 300, *, replicas: int = 2, rate: float = 200.0, target: str = "process") -> dict[str, Any]:
    """What came of a kill each second for so long: answers by status, failures, latencies, seconds until all served."""
    with tempfile.TemporaryDirectory(prefix="prism-kills-") as folder, _gateway(Path(folder), target) as http:
        _deploy(http, Path(folder), replicas)
        return asyncio.run(_attack(http, seconds, replicas, rate))


async def _attack(http: httpx2.Client, seconds: int, replicas: int, rate: float) -> dict[str, Any]:
    url = str(http.base_url.join("/models/iris/predict"))
    headers = {"X-API-Key": http.headers["X-API-Key"]}
    loading = asyncio.create_task(
        load(url, [BODY], seconds=seconds + 2, rate=rate, connections=CONNECTIONS, headers=headers)
    )
    killed = await asyncio.to_thread(_kill_each_second, http, seconds)
    ready = await asyncio.to_thread(_seconds_until_all_serve, http, replicas, set(killed))
    result = await loading
    return {
        "kills": len(killed),
        "requests": result.answered + result.unanswered,
        "statuses": {str(status): answers.count for status, answers in result.answers.items()},
        "failures": dict(result.failures),
        "unanswered": result.unanswered,
        "unsent": result.unsent,
        "client_errors": result.failed,
        "p50_ms": round(result.latency.percentile(50) * 1000, 1),
        "p99_ms": round(result.latency.percentile(99) * 1000, 1),
        "max_ms": round(result.latency.percentile(100) * 1000, 1),
        "ready_after_seconds": ready,
    }


def _kill_each_second(http: httpx2.Client, seconds: int) -> list[str]:
    """Ids of those that were: one that serves, at random; where none does, that second passes."""
    began, killed = time.monotonic(), []
    for second in range(1, seconds + 1):
        time.sleep(max(0.0, began + second - time.monotonic()))
        living = [one for one in _replicas(http) if one["id"] not in killed]
        if living:
            one = random.choice(living)
            _kill(one["pid"])
            killed.append(one["id"])
    return killed


def _replicas(http: httpx2.Client) -> list[dict[str, Any]]:
    """Those that take traffic, as the gateway has them."""
    replicas: list[dict[str, Any]] = http.get("/models/iris").json()["replicas"]
    return replicas


def _kill(pid: int) -> None:
    """The whole of it, as somebody who wants it gone would."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)


def _seconds_until_all_serve(http: httpx2.Client, replicas: int, killed: set[str]) -> float | None:
    """None if that takes too long."""
    began = time.monotonic()
    while time.monotonic() - began < READY_SECONDS:
        serving = {one["id"] for one in _replicas(http)} - killed
        if len(serving) == replicas and http.get("/v2/health/ready").status_code == 200:
            return round(time.monotonic() - began, 2)
        time.sleep(POLL_SECONDS)
    return None


@contextlib.contextmanager
def _gateway(home: Path, target: str) -> Iterator[httpx2.Client]:
    key = secrets.token_urlsafe(16)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PRISM_")},
        **{"PRISM_HOME": str(home), "PRISM_PORT": str(port), "PRISM_TARGET": target, "PRISM_ACCELERATE": "off"},
        **{"PRISM_RATE_LIMIT_REQUESTS": "0", "PRISM_ADMIN_KEYS": key},
    }
    with (home / "server.log").open("ab") as log:
        gateway = subprocess.Popen([sys.executable, "-m", "app.serve"], cwd=ROOT, env=settings, stdout=log, stderr=log)
    http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False)
    http.headers["X-API-Key"] = key
    try:
        _wait_for_start(http, gateway)
        yield http
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(60)


def _wait_for_start(http: httpx2.Client, gateway: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if gateway.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("The gateway did not start.")
        with contextlib.suppress(httpx2.TransportError):
            if http.get("/health").status_code == 200:
                return
        time.sleep(POLL_SECONDS)


def _deploy(http: httpx2.Client, folder: Path, replicas: int) -> None:
    data, labels = load_iris(return_X_y=True)
    file = folder / "iris.joblib"
    joblib.dump(LogisticRegression(max_iter=1000).fit(data, labels), file)
    fields = {"model_name": "iris", "replicas": str(replicas)}
    with file.open("rb") as artifact:
        answer = http.post("/models/upload-and-run", data=fields, files={"file": artifact})
    if answer.status_code != 201:
        raise SystemExit(f"The model could not be deployed: {answer.text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--target", default="process", choices=("process", "docker"))
    options = parser.parse_args()
    print(
        json.dumps(run(options.seconds, replicas=options.replicas, rate=options.rate, target=options.target), indent=2)
    )


if __name__ == "__main__":
    main()
