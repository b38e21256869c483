"""Measure the request road beside a bare ASGI echo, in one run, on this machine.

    .venv/bin/python scripts/bench.py [--seconds 5] [--rounds 3]

Needs wrk. Starts a PRISM of its own in a temporary home, deploys the sample model and its ONNX twin, and loads
loopback only. Prints a table in Markdown: requests a second and latency, as the median of the rounds with their
spread, and the ratio to the echo measured right beside.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prism import Prism

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLE = CHECKOUT / "model_store" / "samples" / "iris"
ECHO = """
async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-API-Key"] = "bench"
local rows = {}
for i = 1, 500 do
  rows[i] = string.format('{"features": [[%.2f, %.2f, %.2f, %.2f]]}', 4 + i % 40 / 10, 2 + i % 25 / 10, 1 + i % 60 / 10, i % 25 / 10)
end
local n = 0
request = function()
  n = n % 500 + 1
  return wrk.format(nil, nil, nil, rows[n])
end
"""


class Load(NamedTuple):
    """One round of wrk: requests a second, p99 in ms, answers other than 2xx."""

    per_second: float
    p99_ms: float
    failed: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def running(command: list[str], environ: dict[str, str], port: int, log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=log.parent, env=environ, stdout=output, stderr=output)
    try:
        wait_until_open(port)
        yield
    finally:
        process.terminate()
        process.wait(60)


def wrk(url: str, connections: int, seconds: int, script: Path) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    assert rate, said
    assert p99, said
    return Load(
        float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]], int(failed[1]) if failed else 0
    )


def row(name: str, connections: int, loads: list[Load], echoes: list[Load]) -> str:
    rates = [load.per_second for load in loads]
    ratios = [load.per_second / echo.per_second for load, echo in zip(loads, echoes, strict=True)]
    p99 = statistics.median(load.p99_ms for load in loads)
    failed = sum(load.failed for load in loads)
    return (
        f"| {name} | {connections} | {statistics.median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f}) "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {p99:.1f} | {failed} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is not installed (Debian: apt-get install wrk; macOS: brew install wrk)")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.seconds, arguments.rounds)


def measure(home: Path, seconds: int, rounds: int) -> None:
    script, echo_port, port = home / "rows.lua", free_port(), free_port()
    script.write_text(WRK)
    (home / "echo.py").write_text(ECHO)
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "MODEL_"))}
    settings = {
        "PRISM_HOME": str(home),
        "PRISM_PORT": str(port),
        "PRISM_API_KEYS": "bench",
        "PRISM_RATE_LIMIT_REQUESTS": "1000000000",
        "PRISM_SINGLE_ACTIVE_MODEL": "false",
        "PRISM_TARGET": os.environ.get("PRISM_TARGET", "process"),
    }
    echo = [sys.executable, "-m", "uvicorn", "echo:app", "--loop", "uvloop", "--http", "httptools"]
    echo += ["--port", str(echo_port), "--no-access-log", "--log-level", "warning"]
    gateway = [sys.executable, "-m", "app.serve"]
    with (
        running(echo, bare, echo_port, home / "echo.log"),
        running(gateway, {**bare, **settings, "PYTHONPATH": str(CHECKOUT)}, port, home / "server.log"),
        Prism(f"http://127.0.0.1:{port}", api_key="bench") as prism,
    ):
        timings = {}
        for name, file in (
            ("scikit-learn", "iris.joblib"),
            ("ONNX", "iris.onnx"),
            ("scikit-learn again", "iris.joblib"),
        ):
            began = time.monotonic()
            prism.deploy(SAMPLE / file, name=name.replace(" ", "-"))
            timings[name] = time.monotonic() - began
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {rounds} × {seconds} s\n"
        )
        print("| | connections | requests/s | ratio to echo | p99 ms | failed |\n| --- | --- | --- | --- | --- | --- |")
        for connections in (1, 64):
            loads: dict[str, list[Load]] = {"echo": [], "ONNX": [], "scikit-learn": []}
            for _ in range(rounds):
                loads["echo"].append(wrk(f"http://127.0.0.1:{echo_port}/", connections, seconds, script))
                for name in ("ONNX", "scikit-learn"):
                    url = f"http://127.0.0.1:{port}/models/{name}/predict"
                    loads[name].append(wrk(url, connections, seconds, script))
            for name, rounds_of in loads.items():
                print(row(name, connections, rounds_of, loads["echo"]))
        print()
        for name, took in timings.items():
            print(f"From file to first answer, {name}: {took:.1f} s")


if __name__ == "__main__":
    main()
