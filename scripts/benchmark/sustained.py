"""A rate that does not depend on the answers: 500 requests a second, latency from when each was due."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import attrgetter

from prism.load import Result
from scripts.benchmark import models, servers
from scripts.benchmark.asking import ask, client_note, percentiles_ms
from scripts.benchmark.bench import Bench, CpuMeter
from scripts.benchmark.models import ONNX_FOREST, ONNX_LINEAR, SKLEARN_FOREST, SKLEARN_LINEAR
from scripts.benchmark.report import Table, progress

RATE = 500
CONNECTIONS = 64
LEAST_SECONDS = 10
KINDS = (ONNX_LINEAR, SKLEARN_LINEAR, ONNX_FOREST, SKLEARN_FOREST)
COLUMNS = (
    *("target", "model", "answered/s", "p50 ms", "p99 ms", "max ms"),
    *("gateway CPU µs a request", "runtime CPU µs a request", "failed"),
)


def run(bench: Bench) -> None:
    seconds = max(bench.seconds, LEAST_SECONDS)
    bodies = models.single_rows()
    table = Table(
        "sustained", f"{RATE} requests/s for {seconds:g} s in an open loop, {CONNECTIONS} connections", COLUMNS
    )

    with servers.echo(bench.folder) as echo, bench.gateways("sustained", KINDS) as gateways:
        results = [ask(echo.url, bodies, CONNECTIONS, seconds, RATE) for _ in range(bench.rounds)]
        table.add("–", "echo", *_figures(results), "–", "–", _failed(results))
        table.notes.append(client_note(results))
        for gateway in gateways:
            for kind in KINDS:
                progress(f"sustained: {kind.title} on {gateway.target}")
                meter = CpuMeter(gateway, kind.name)
                work = partial(ask, gateway.predict_url(kind.name), bodies, CONNECTIONS, seconds, RATE)
                results = [meter.measure(work, attrgetter("answered")) for _ in range(bench.rounds)]
                cpu = (meter.gateway_us, meter.runtime_us)
                table.add(gateway.target, kind.title, *_figures(results), *cpu, _failed(results))
    table.notes.append("Latency counts from when a request was due. PRISM caches no answers.")
    bench.report.end_of(table)


def _figures(results: Sequence[Result]) -> list[list[float]]:
    latencies = [result.latency for result in results]
    return [
        [result.successes_per_second for result in results],
        *percentiles_ms(latencies, 50, 99),
        [latency.max * 1000 for latency in latencies],
    ]


def _failed(results: Sequence[Result]) -> int:
    """Requests that were never sent, for want of a free connection, included."""
    return sum(result.failed + result.unsent for result in results)
