"""One row a request, as fast as it is answered: throughput and latency beside the echo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from scripts.benchmark import models, servers, wrk
from scripts.benchmark.bench import Bench, CpuMeter
from scripts.benchmark.models import ONNX_FOREST, ONNX_LINEAR, SKLEARN_LINEAR
from scripts.benchmark.report import Table, progress, ratios
from scripts.benchmark.servers import Gateway, Reference

CONNECTIONS = (1, 64, 256)
KINDS = (ONNX_LINEAR, SKLEARN_LINEAR, ONNX_FOREST)
COLUMNS = (
    *("connections", "target", "model", "requests/s", "ratio to echo", "p50 ms", "p99 ms", "p99 ÷ echo's"),
    *("gateway CPU µs a request", "runtime CPU µs a request", "failed"),
)


def run(bench: Bench) -> None:
    wrk.need()
    table = Table("road", f"one row a request, {models.DIFFERENT_ROWS} different rows, wrk -t1", COLUMNS)
    script = wrk.script(bench.folder, models.single_rows())
    with (
        servers.echo(bench.folder) as echo,
        servers.floor(bench.folder) as floor,
        bench.gateways("road", KINDS) as gateways,
    ):
        for connections in CONNECTIONS:
            _measure(bench, table, connections, {"echo": echo, "floor": floor}, gateways, script)
    table.notes.append("API key, rate limit and request ids on; each ratio is to the echo of the same round.")
    table.notes.append(
        "Floor: reads whatever comes and writes one constant answer as long as PRISM's; nothing in one process of "
        "Python is faster on this machine."
    )
    bench.report.end_of(table)


def _measure(
    bench: Bench,
    table: Table,
    connections: int,
    references: Mapping[str, Reference],
    gateways: Sequence[Gateway],
    script: Path,
) -> None:
    """All servers take turns in each round, so that the machine's moods meet all of them."""
    served = [("–", title, reference.url, CpuMeter(reference, "")) for title, reference in references.items()]
    served += [
        (gateway.target, kind.title, gateway.predict_url(kind.name), CpuMeter(gateway, kind.name))
        for gateway in gateways
        for kind in KINDS
    ]
    loads: list[list[wrk.Round]] = [[] for _ in served]
    for number in range(bench.rounds):
        progress(f"road: {connections} connections, round {number + 1} of {bench.rounds}")
        for (_, _, url, meter), rounds in zip(served, loads, strict=True):
            work = partial(wrk.run, url, connections, bench.seconds, script)
            rounds.append(meter.measure(work, attrgetter("requests")))
    for (target, title, _, meter), rounds in zip(served, loads, strict=True):
        cpu = (meter.gateway_us, "–" if target == "–" else meter.runtime_us)
        table.add(connections, target, title, *_figures(rounds, loads[0]), *cpu, _failed(rounds))


def _figures(rounds: Sequence[wrk.Round], echoes: Sequence[wrk.Round]) -> list[list[float]]:
    rates, p99 = [round_.requests_per_second for round_ in rounds], [round_.p99_ms for round_ in rounds]
    return [
        rates,
        ratios(rates, [round_.requests_per_second for round_ in echoes]),
        [round_.p50_ms for round_ in rounds],
        p99,
        ratios(p99, [round_.p99_ms for round_ in echoes]),
    ]


def _failed(rounds: Sequence[wrk.Round]) -> int:
    return sum(round_.failed for round_ in rounds)
