"""Load from wrk: one thread, keep-alive, the bodies in turn."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SCRIPT = """wrk.method = "POST"
local bodies, requests, n = {%(bodies)s}, {}, 0
%(headers)s
init = function()  -- each is written once: the client's processor time is taken from the server
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format(nil, nil, nil, body)
  end
end
request = function()
  n = n %% #requests + 1
  return requests[n]
end
"""
MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Load(NamedTuple):
    """One run of wrk. errors: answers other than 2xx, broken connections, and timeouts."""

    per_second: float
    p99_ms: float
    errors: int


def write_script(path: Path, request_bodies: Sequence[str], headers: Mapping[str, str]) -> None:
    """The bodies are written as Lua strings, which JSON's own quoting of ASCII text is."""
    named = {"Content-Type": "application/json", **headers}
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in named.items()]
    quoted = ",\n".join(json.dumps(body) for body in request_bodies)
    path.write_text(SCRIPT % {"bodies": quoted, "headers": "\n".join(lines)})


def load(url: str, connections: int, seconds: float, script: Path) -> Load:
    """Raises RuntimeError, with wrk's own words, if it cannot run."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", "--latency"]
    done = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"wrk: {done.stdout.strip()} {done.stderr.strip()}")
    return parse_wrk(done.stdout)


def parse_wrk(output: str) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", output)
    if not rate or not p99:
        raise RuntimeError(f"wrk said something else than expected: {output}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = int(refused[1]) if refused else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    return Load(float(rate[1]), float(p99[1]) * MS[p99[2]], errors)
