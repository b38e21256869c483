"""256 rows a request through HTTP, beside what the same model does in memory at that batch size."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

from prism.load import Result
from scripts.benchmark import models, servers
from scripts.benchmark.asking import ask
from scripts.benchmark.bench import Bench, CpuMeter
from scripts.benchmark.models import Kind
from scripts.benchmark.report import Table, progress, ratios
from scripts.benchmark.servers import CHECKOUT, Gateway

ROWS = 256
CONNECTIONS = (1, 2, 4)
JSON, BINARY = "JSON", "V2 binary"
COLUMNS = (
    *("model", "target", "body", "in memory, rows/s", "with JSON, rows/s", "through HTTP, rows/s", "connections"),
    *("ratio to memory", "ratio to memory with JSON", "ratio to echo"),
    *("gateway CPU µs a request", "runtime CPU µs a request", "failed"),
)


@dataclass(frozen=True)
class Asked:
    """What a series sends, and where."""

    body: str
    url: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Series:
    """The rounds of one server at one number of connections."""

    requests: Asked
    connections: int
    meter: CpuMeter | None = None
    results: list[Result] = field(default_factory=list)

    @property
    def rows_per_second(self) -> list[float]:
        return [result.successes_per_second * ROWS for result in self.results]

    def measure(self, seconds: float) -> None:
        requests = self.requests
        work = partial(ask, requests.url, requests.bodies, self.connections, seconds, headers=requests.headers)
        self.results.append(self.meter.measure(work, attrgetter("answered")) if self.meter else work())


def run(bench: Bench) -> None:
    bodies = models.batches(ROWS)
    (bench.folder / "bodies.json").write_bytes(b"\n".join(bodies))
    table = Table("batches", f"{ROWS} rows of {models.FEATURES} features a request", COLUMNS)
    with servers.echo(bench.folder) as echo, bench.gateways("batches", models.ALL) as gateways:
        for kind in models.ALL:
            _measure(bench, table, kind, Asked(JSON, echo.url, bodies), gateways)
    table.notes += [
        "In memory: predict alone, on an array that is there, on one thread, in a process of its own. With JSON: the "
        "same, with the request decoded and the answer encoded by msgspec, as any server must. Ratios round by round.",
        f"Through HTTP: the best of {', '.join(map(str, CONNECTIONS))} connections; the echo's rows are those it sends "
        f"back. {BINARY}: POST /v2/models/{{name}}/infer with tensors as bytes, both ways; other bodies are {JSON}.",
    ]
    bench.report.end_of(table)


def _measure(bench: Bench, table: Table, kind: Kind, echoed: Asked, gateways: Sequence[Gateway]) -> None:
    memory: list[dict[str, Any]] = []
    echoes = [Series(echoed, connections) for connections in CONNECTIONS]
    served = [
        (gateway, [Series(requests, connections, CpuMeter(gateway, kind.name)) for connections in CONNECTIONS])
        for gateway in gateways
        for requests in (Asked(JSON, gateway.predict_url(kind.name), echoed.bodies), _binary(gateway, kind))
    ]
    for number in range(bench.rounds):
        progress(f"batches: {kind.title}, round {number + 1} of {bench.rounds}")
        memory.append(_in_memory(bench, kind))
        for series in (*echoes, *(series for _, candidates in served for series in candidates)):
            series.measure(bench.seconds)
    alone, with_json = [sample["predict"] for sample in memory], [sample["with_json"] for sample in memory]
    for gateway, candidates in served:
        best = _best(candidates)
        rates = best.rows_per_second
        table.add(
            *(kind.title, gateway.target, best.requests.body, alone, with_json, rates, best.connections),
            *(ratios(rates, alone), ratios(rates, with_json), ratios(rates, _best(echoes).rows_per_second)),
            *(best.meter.gateway_us if best.meter else [], best.meter.runtime_us if best.meter else []),
            sum(result.failed for result in best.results),
        )


def _binary(gateway: Gateway, kind: Kind) -> Asked:
    head, bodies = models.binary_batches(kind, ROWS)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Asked(BINARY, f"{gateway.url}/v2/models/{kind.name}/infer", bodies, headers)


def _best(candidates: Sequence[Series]) -> Series:
    return max(candidates, key=lambda series: statistics.median(series.rows_per_second))


def _in_memory(bench: Bench, kind: Kind) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.benchmark.in_memory", str(bench.models / kind.file)]
    command += [str(bench.folder / "bodies.json"), str(bench.seconds)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
