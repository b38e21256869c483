"""wrk, so that throughput compares with what others measured: one thread, 500 different rows, keep-alive."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark.servers import KEY

_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Round(NamedTuple):
    """failed: answers other than 2xx, and errors of sockets."""

    requests_per_second: float
    requests: int
    p50_ms: float
    p99_ms: float
    failed: int


def need() -> None:
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is not installed (Debian: apt-get install wrk; macOS: brew install wrk)")


def script(folder: Path, bodies: Sequence[bytes]) -> Path:
    """A wrk script that posts the bodies in turn. Each request is written once, so that the client's own processor
    time, which it takes from the server on a small machine, is that of sending and reading."""
    listed = ",\n".join(f"[==[{body.decode()}]==]" for body in bodies)
    path = folder / "rows.lua"
    path.write_text(f"""wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-API-Key"] = "{KEY}"
local rows = {{
{listed}
}}
local requests = {{}}
init = function()
  for i, row in ipairs(rows) do
    requests[i] = wrk.format(nil, nil, nil, row)
  end
end
local n = 0
request = function()
  n = n % #requests + 1
  return requests[n]
end
""")
    return path


def run(url: str, connections: int, seconds: float, script: Path) -> Round:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script), url]
    return parsed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parsed(output: str) -> Round:
    """What wrk printed. Raises ValueError for anything else."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    total = re.search(r"(\d+) requests in", output)
    times = {
        percent: float(value) * _MS[unit] for percent, value, unit in re.findall(r"(\d\d)%\s+([\d.]+)(us|ms|s)", output)
    }
    if rate is None or total is None or not times.keys() >= {"50", "99"}:
        raise ValueError(f"this is not what wrk prints: {output[:500]}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = int(refused[1]) if refused else 0
    failed += sum(map(int, sockets.groups())) if sockets else 0
    return Round(float(rate[1]), int(total[1]), times["50"], times["99"], failed)
