"""Twice as much as the server can do: what still gets through, how the rest is refused, and how soon it is over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from prism.load import Latencies, Result
from scripts.benchmark import models
from scripts.benchmark.asking import ask
from scripts.benchmark.bench import Bench, CpuMeter
from scripts.benchmark.models import ONNX_LINEAR, SKLEARN_FOREST, Kind
from scripts.benchmark.processes import resident_mib, while_sampling
from scripts.benchmark.report import Table, progress
from scripts.benchmark.servers import CHECKOUT, Gateway

PEAK_CONNECTIONS = (64, 256, 1024)
"""The peak is the best of them: what gains much from large batches has it where many requests wait."""
CONNECTIONS = 2048
"""More than PRISM_QUEUE_LENGTH (1,024 by default): with fewer, the queue could never be full."""
OVERLOAD_SECONDS = 10
PROBE_RATE = 100
LIGHT_RATE = 100
LIGHT_CONNECTIONS = 4
WINDOW_SECONDS = 0.25
RECOVERY_SECONDS = 10
NORMAL = (2.0, 0.002)
"""A window's p99 is normal again below this multiple of the p99 before, plus these seconds."""
KINDS = (ONNX_LINEAR, SKLEARN_FOREST)
REFUSED = (429, 503)


def run(bench: Bench) -> None:
    with bench.gateways("overload", KINDS) as gateways:
        served = [(gateway, kind) for gateway in gateways for kind in KINDS]
        title = f"twice the peak for {OVERLOAD_SECONDS} s in an open loop, {CONNECTIONS:,} connections, queue of 1,024"
        columns = ("", *(f"{kind.title}, {gateway.target}" for gateway, kind in served))
        table = Table("overload", title, columns)
        measured = []
        for gateway, kind in served:
            progress(f"overload: {kind.title} on {gateway.target}")
            measured.append([_round(bench, gateway, kind) for _ in range(bench.rounds)])
    for figure in measured[0][0]:
        table.add(figure, *([round_[figure] for round_ in rounds] for rounds in measured))
    table.notes += [
        f"Peak: closed loop, the best of {', '.join(map(str, PEAK_CONNECTIONS))} connections. Goodput: answers of 2xx "
        "in time. Answers are timed from when their request was sent. The busy client that makes the load reads them "
        f"late, so a second process, which sends {PROBE_RATE} requests/s of its own, times refusals too.",
        f"Normal: p99 of {WINDOW_SECONDS} s at {LIGHT_RATE} requests/s is not above twice that before, plus 2 ms.",
        "Client and server share this machine's cores. Where requests were never sent, or the CPU times add up to all "
        "cores, twice the peak was more than the machine can offer and refuse at once, and answers wait for the "
        "processor; the slower model, whose peak is far below the gateway's, then tells more.",
    ]
    bench.report.end_of(table)


def _round(bench: Bench, gateway: Gateway, kind: Kind) -> dict[str, float]:
    url, bodies = gateway.predict_url(kind.name), models.single_rows()
    normal = _light(url, bodies, bench.seconds).percentile(99)
    peak = max(ask(url, bodies, connections, bench.seconds).successes_per_second for connections in PEAK_CONNECTIONS)
    before = resident_mib(gateway.pid)
    meter = CpuMeter(gateway, kind.name)
    overload = partial(while_sampling, gateway.pid, partial(ask, url, bodies, CONNECTIONS, OVERLOAD_SECONDS, 2 * peak))
    probe = _start_probe(url, bodies[0])
    result, most = meter.measure(overload, lambda done: done[0].answered)
    normal_after = _seconds_until_normal(url, bodies, normal)
    seen = json.loads(probe.communicate(timeout=60)[0])
    successes, refusals = _responses(result, range(200, 300)), _responses(result, REFUSED)
    return {
        "peak, requests/s": peak,
        "offered, requests/s": 2 * peak,
        "goodput, requests/s": result.successes_per_second,
        "goodput ÷ peak": result.successes_per_second / peak,
        "success p50 ms": successes.percentile(50) * 1000,
        "success p99 ms": successes.percentile(99) * 1000,
        "refused ÷ answered": refusals.count / max(1, result.answered),
        "refusal p50 ms": refusals.percentile(50) * 1000,
        "refusal p99 ms": refusals.percentile(99) * 1000,
        "refusal p50 ms, second client": _seen(seen, "p50_ms"),
        "refusal p99 ms, second client": _seen(seen, "p99_ms"),
        "other failures": result.failed - refusals.count,
        "never sent ÷ offered": result.unsent / (2 * peak * OVERLOAD_SECONDS),
        "client CPU, cores": result.client_cpu_share,
        "gateway CPU, cores": meter.gateway_us[0] * result.answered / 1e6 / OVERLOAD_SECONDS,
        "runtime CPU, cores": meter.runtime_us[0] * result.answered / 1e6 / OVERLOAD_SECONDS,
        "gateway CPU µs an answer": meter.gateway_us[0],
        "gateway RSS MiB before": before,
        "gateway RSS MiB at most": most,
        "gateway RSS MiB after": resident_mib(gateway.pid),
        "normal again after s": normal_after,
    }


def _light(url: str, bodies: Sequence[bytes], seconds: float) -> Latencies:
    return ask(url, bodies, LIGHT_CONNECTIONS, seconds, LIGHT_RATE).latency


def _seconds_until_normal(url: str, bodies: Sequence[bytes], normal: float) -> float:
    """Until the beginning of the first window of light load that is as before; at most RECOVERY_SECONDS."""
    began = time.monotonic()
    while (begins := time.monotonic() - began) < RECOVERY_SECONDS:
        if _light(url, bodies, WINDOW_SECONDS).percentile(99) <= NORMAL[0] * normal + NORMAL[1]:
            break
    return begins


def _start_probe(url: str, body: bytes) -> subprocess.Popen[str]:
    """It ends a second before the overload does, which it needs to start."""
    command = [sys.executable, "-m", "scripts.benchmark.probe", url, body.decode(), str(PROBE_RATE)]
    command.append(str(OVERLOAD_SECONDS - 2))
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


def _seen(seen: dict[str, Any], figure: str) -> float:
    """Return the figure of the second client's refusals, the worse of the two kinds; 0 without refusals."""
    return max((float(seen[str(status)][figure]) for status in REFUSED if str(status) in seen), default=0.0)


def _responses(result: Result, statuses: Sequence[int]) -> Latencies:
    return Latencies.merged(answers.response for status, answers in result.answers.items() if status in statuses)
