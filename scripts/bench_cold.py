"""Measure the way to the first answer: start, memory, and from a model file to its first prediction.

    .venv/bin/python scripts/bench_cold.py [--rounds 5] [--targets process,docker]

Linux. Starts PRISMs of its own, each in a temporary home that is removed with all it made; for `docker` an engine has
to answer. Prints Markdown: medians, with the lowest and the highest round. Memory is the proportional share (PSS) of
the process and of those below it, so that pages shared with others count in part; its upper bound, where nothing is
shared, is the resident set (RSS), printed beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import psutil

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLE = CHECKOUT / "model_store" / "samples" / "iris"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
FILES = {"scikit-learn": SAMPLE / "iris.joblib", "ONNX": SAMPLE / "iris.onnx"}
START_SECONDS, DEPLOY_SECONDS, IDLE_SECONDS = 30.0, 600.0, 1.0


class Memory(NamedTuple):
    pss_mb: float
    rss_mb: float


class Gateway(NamedTuple):
    """A running one. started_seconds, cpu_seconds: from its exec to its first answer from /health."""

    process: psutil.Process
    client: httpx2.Client
    started_seconds: float
    cpu_seconds: float


class Deployed(NamedTuple):
    """to_answer_seconds: from sending the file to the first prediction. document: of the model."""

    to_answer_seconds: float
    document: dict[str, Any]

    @property
    def installer_seconds(self) -> float:
        """What the steps took that wait for the package index and the installer: resolving and building."""
        timings = self.document["timings_ms"]
        return float(timings["resolving"] + timings["building"]) / 1000


@contextmanager
def gateway(target: str, home: Path) -> Iterator[Gateway]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Compiled bytecode is part of an installed PRISM; a shell that forbids it would have each start compile.
    ours = ("PRISM_", "MODEL_", "PYTHONDONTWRITEBYTECODE")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environ |= {"PRISM_HOME": str(home), "PRISM_PORT": str(port), "PRISM_TARGET": target}
    environ |= {"PRISM_SINGLE_ACTIVE_MODEL": "false", "PRISM_LOG_LEVEL": "warning", "PYTHONPATH": str(CHECKOUT)}
    environ |= {"PRISM_ACCELERATE": "off"}  # it follows once a model is live, and would slow the next round down
    began = time.monotonic()
    command = [sys.executable, "-m", "app.serve"]
    with (
        subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEPLOY_SECONDS) as client,
    ):
        try:
            wait_until_well(server, port)
            took = time.monotonic() - began
            process = psutil.Process(server.pid)
            yield Gateway(process, client, took, sum(process.cpu_times()[:2]))
        finally:
            server.terminate()


def wait_until_well(server: subprocess.Popen[bytes], port: int) -> None:
    """Poll the server's health over plain sockets, because an HTTP client would distort the measured time."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if connection.recv(1 << 16).startswith(b"HTTP/1.1 200 "):
                    return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit("bench: the gateway did not start; its own words are above")
        time.sleep(0.005)


def memory(pid: int) -> Memory:
    """Return the memory of the process and all its descendants."""
    pss = rss = 0
    process = psutil.Process(pid)
    for member in (process, *process.children(recursive=True)):
        lines = Path(f"/proc/{member.pid}/smaps_rollup").read_text().splitlines()
        sizes = {name: int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines[1:])}
        pss, rss = pss + sizes["Pss"], rss + sizes["Rss"]
    return Memory(pss / 1024, rss / 1024)


def deploy(to: Gateway, file: Path, name: str, target: str) -> Deployed:
    began = time.monotonic()
    with file.open("rb") as content:
        answer = to.client.post(
            "/models/upload-and-run", files={"file": content}, data={"model_name": name, "target": target}
        )
    if answer.status_code != 201:
        sys.exit(f"bench: {file.name} was not deployed: {answer.text}")
    to.client.post(f"/models/{name}/predict", json=ROW).raise_for_status()
    took = time.monotonic() - began
    return Deployed(took, to.client.get(f"/models/{name}").raise_for_status().json())


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def measure_start(rounds: int, target: str) -> Iterator[str]:
    """The first start is not counted: it may still have to write bytecode."""
    wall, cpu, idle = [], [], []
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as home, gateway(target, Path(home)) as running:
            if number:
                time.sleep(IDLE_SECONDS)
                wall.append(running.started_seconds)
                cpu.append(running.cpu_seconds)
                idle.append(memory(running.process.pid))
    yield f"| gateway, start to first answer | {target} | {spread(wall)} s, {spread(cpu)} s of CPU | < 1 s |"
    yield f"| gateway, idle | {target} | {in_mb(idle)} | ≤ 60 MB |"


def in_mb(samples: Sequence[Memory]) -> str:
    return (
        f"{spread([sample.pss_mb for sample in samples], 0)} MB PSS, "
        f"{statistics.median(sample.rss_mb for sample in samples):.0f} MB RSS"
    )


def measure_models(rounds: int, target: str) -> Iterator[str]:
    aims = {"scikit-learn": "≤ 130 MB", "ONNX": "≤ 60 MB"}
    aim = {"process": "< 1.5 s", "docker": "< 4 s"}[target]
    with tempfile.TemporaryDirectory() as home, gateway(target, Path(home)) as running:
        for library, file in FILES.items():
            name = library.lower()
            first = deploy(running, file, f"{name}-0", target)
            replica = memory(first.document["replica"]["pid"])  # while there is no other that it shares with
            rest = first.to_answer_seconds - first.installer_seconds
            again = [deploy(running, file, f"{name}-{number}", target) for number in range(1, rounds + 1)]
            took = spread([deployment.to_answer_seconds for deployment in again])
            yield f"| {library}: file to first prediction, environment at hand | {target} | {took} s | {aim} |"
            yield (
                f"| {library}: the same, environment to be built | {target} "
                f"| {first.to_answer_seconds:.1f} s, of which {rest:.2f} s not resolving or building | < 2 s |"
            )
            yield f"| {library}: a replica | {target} | {in_mb([replica])} | {aims[library]} |"
        for model in running.client.get("/models").raise_for_status().json()["models"]:
            running.client.delete(f"/models/{model['model_id']}").raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", default="process,docker", help="comma-separated (default: process,docker)")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("bench: memory is read from /proc, which only Linux has")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {arguments.rounds} rounds\n"
    )
    print("| what | target | median (lowest–highest) | aim |\n| --- | --- | --- | --- |")
    for target in arguments.targets.split(","):
        for measure in (measure_start, measure_models):
            for line in measure(arguments.rounds, target):
                print(line, flush=True)


if __name__ == "__main__":
    main()
