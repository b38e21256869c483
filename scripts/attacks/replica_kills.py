"""kill -9 of a replica each second, under load: no caller may notice, and all serve again within seconds."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import Any

import psutil

from scripts.attacks.healthy import RATE, ask
from scripts.attacks.outcome import Outcome
from scripts.attacks.server import Attacked

CONNECTIONS = 512
"""More than wait at a time: two seconds without a replica at 200 requests a second are 400."""

READY_WITHIN_SECONDS, PATIENCE_SECONDS = 5.0, 60.0
POLL_SECONDS = 0.02


def run(server: Attacked, replicas: int, seconds: float) -> Outcome:
    """Kill one replica each second while the model is asked 200 times a second, from when it is due on."""
    killer = Killer(server)
    killer.start()
    result = ask(server, seconds, CONNECTIONS)
    killer.end()
    ready = seconds_until_all_serve(server, replicas, killer.killed)
    lost = result.failed + result.unsent
    figures = {
        "kills": str(len(killer.killed)),
        "requests": str(result.answered + result.unanswered),
        "failed": str(lost),
        "ms p99": f"{result.latency.percentile(99) * 1000:.0f}",
        "s until all serve": f"{ready:.1f}",
    }
    breaches = [f"{lost} requests failed while replicas were killed"] if lost else []
    if ready > READY_WITHIN_SECONDS:
        breaches.append(f"all replicas served only after {ready:.1f} s")
    name = "one of two replicas" if replicas > 1 else "the only replica"
    return Outcome(f"kill -9 of {name} each second, beside {RATE} requests/s", figures, tuple(breaches))


class Killer(threading.Thread):
    """Kills one replica that serves, at random, each second; where none does, that second passes."""

    def __init__(self, server: Attacked) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._told_to_end = threading.Event()
        self.killed: set[str] = set()

    def run(self) -> None:
        while not self._told_to_end.wait(1):
            living = [replica for replica in serving(self._server) if replica["id"] not in self.killed]
            if living:
                replica = random.choice(living)
                kill(replica["pid"])
                self.killed.add(replica["id"])

    def end(self) -> None:
        self._told_to_end.set()
        self.join()


def kill(pid: int) -> None:
    """The whole of it, as somebody who wants it gone would."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)


def serving(server: Attacked) -> list[dict[str, Any]]:
    """The replicas that take traffic, as the gateway has them."""
    replicas: list[dict[str, Any]] = server.http.get("/models/iris").json()["replicas"]
    return replicas


def seconds_until_all_serve(server: Attacked, replicas: int, killed: set[str]) -> float:
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS:
        alive = {replica["id"] for replica in serving(server)} - killed
        if len(alive) == replicas and server.http.get("/v2/health/ready").status_code == 200:
            break
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began
