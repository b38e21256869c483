"""PRISM's own load generator beside wrk, both on the echo: whether what it measures is the server or itself."""

from __future__ import annotations

from scripts.benchmark import models, servers, wrk
from scripts.benchmark.asking import ask, client_note, percentiles_ms
from scripts.benchmark.bench import Bench
from scripts.benchmark.report import Table, progress, ratios

CONNECTIONS = (1, 64, 256)
COLUMNS = (
    *("connections", "wrk, requests/s", "prism.load, requests/s", "ratio"),
    *("wrk, p99 ms", "prism.load, p99 ms", "prism.load CPU, cores"),
)


def run(bench: Bench) -> None:
    wrk.need()
    bodies = models.single_rows()
    script = wrk.script(bench.folder, bodies)
    table = Table("generator", "one row, sent back by the echo, asked by wrk -t1 and by prism.load in turns", COLUMNS)
    with servers.echo(bench.folder) as echo:
        for connections in CONNECTIONS:
            rounds, results = [], []
            for number in range(bench.rounds):
                progress(f"generator: {connections} connections, round {number + 1} of {bench.rounds}")
                rounds.append(wrk.run(echo.url, connections, bench.seconds, script))
                results.append(ask(echo.url, bodies, connections, bench.seconds))
            theirs = [round_.requests_per_second for round_ in rounds]
            ours = [result.successes_per_second for result in results]
            table.add(
                *(connections, theirs, ours, ratios(ours, theirs), [round_.p99_ms for round_ in rounds]),
                *percentiles_ms([result.latency for result in results], 99),
                [result.client_cpu_share for result in results],
            )
            table.notes.append(f"{connections} connections: {client_note(results)}")
    table.notes.append(
        "On one connection the client's own time, some 30 µs of Python, is part of every turn; from some tens on, it is "
        "spent while the server works."
    )
    bench.report.end_of(table)
