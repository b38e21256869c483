"""A busy model among 1,000 registered ones, 10,000 API keys and 10,000 idle connections, beside the same one alone."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path

from msgspec import structs

from app.config.loading import load_settings
from app.core.model import Deployment, ModelVersion, Status
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from prism.load import Result
from scripts.benchmark import idle, models
from scripts.benchmark.asking import ask, percentiles_ms
from scripts.benchmark.bench import Bench, CpuMeter
from scripts.benchmark.models import ONNX_LINEAR
from scripts.benchmark.processes import private_bytes
from scripts.benchmark.report import Table, progress, ratios
from scripts.benchmark.servers import CHECKOUT, KEY, Gateway, gateway

MODELS = 1000
KEYS = 10_000
CONNECTIONS = 10_000
SPARE_FILES = 1000
KIND = ONNX_LINEAR
TARGET = "process"
"""What grows here is the gateway, which is the same whatever the target."""
LOADS: tuple[tuple[str, int, float | None], ...] = (("100 requests/s", 4, 100), ("64 connections", 64, None))
COLUMNS = (
    *("with", "load", "requests/s", "p50 ms", "p99 ms", "p50 ÷ alone", "p99 ÷ alone"),
    *("gateway CPU µs a request", "÷ alone", "failed"),
)


def run(bench: Bench) -> None:
    connections = _connections_allowed()
    table = Table("scale", "a busy model's latency as the rest grows", COLUMNS)
    memory = Table("scale", "memory of the gateway", ("of one", "measured over", "bytes"))
    many = {"PRISM_API_KEYS": ",".join([KEY, *map(idle.key, range(KEYS))])}
    # The idle connections must not be closed while the rounds last.
    many["PRISM_KEEP_ALIVE_SECONDS"] = "3600"
    home = bench.folder / "scale-many"
    with gateway(TARGET, home, bench.environments, **many) as few:
        few.deploy(bench.models / KIND.file, KIND.name)
    with gateway(TARGET, home, bench.environments, **many) as few:
        few.wait_until_live(KIND.name)
        without_models = private_bytes(few.pid)
    _register(home, MODELS)
    with (
        gateway(TARGET, bench.folder / "scale-alone", bench.environments) as alone,
        gateway(TARGET, home, bench.environments, **many) as crowded,
    ):
        crowded.wait_until_live(KIND.name)
        memory.add("registered model", MODELS, (private_bytes(crowded.pid) - without_models) / MODELS)
        alone.deploy(bench.models / KIND.file, KIND.name)
        registered = f"{MODELS:,} models, {KEYS:,} keys"
        _compare(bench, table, registered, alone, crowded)
        before = private_bytes(crowded.pid)
        with _idle(crowded, connections) as still_open:
            memory.add("idle connection", connections, (private_bytes(crowded.pid) - before) / connections)
            _compare(bench, table, f"{registered}, {connections:,} idle connections", alone, crowded)
            table.notes.append(f"{still_open():,} of the idle connections were still open at the end.")
    table.notes.append(
        "Both gateways take turns in each round; the ratios are to the one that is alone. The registered models are "
        "stopped; the idle connections made one prediction each, with a key of its own. PRISM_KEEP_ALIVE_SECONDS is "
        "raised for them."
    )
    memory.notes.append(
        "Private memory (USS) of the gateway's process, after less before; a connection's includes what is kept of the "
        "caller whose key it used."
    )
    bench.report.end_of(table)
    bench.report.end_of(memory)


def _compare(bench: Bench, table: Table, title: str, alone: Gateway, crowded: Gateway) -> None:
    bodies = models.single_rows()
    for load, connections, rate in LOADS:
        meters = [CpuMeter(server, KIND.name) for server in (alone, crowded)]
        results: list[list[Result]] = [[], []]
        for number in range(bench.rounds):
            progress(f"scale: {title}, {load}, round {number + 1} of {bench.rounds}")
            for server, meter, of_this in zip((alone, crowded), meters, results, strict=True):
                url = server.predict_url(KIND.name)
                work = partial(ask, url, bodies, connections, bench.seconds, rate)
                of_this.append(meter.measure(work, attrgetter("answered")))
        reference = _times(results[0])
        for name, meter, of_this in zip(("alone", title), meters, results, strict=True):
            p50, p99 = _times(of_this)
            table.add(
                *(name, load, [result.successes_per_second for result in of_this], p50, p99),
                *(ratios(p50, reference[0]), ratios(p99, reference[1])),
                *(meter.gateway_us, ratios(meter.gateway_us, meters[0].gateway_us)),
                sum(result.failed for result in of_this),
            )


def _times(results: Sequence[Result]) -> list[list[float]]:
    return percentiles_ms([result.latency for result in results], 50, 99)


def _register(home: Path, count: int) -> None:
    """Copies of the one model that is there, as the store and the registry write them, stopped."""
    settings = load_settings(home=home)
    store, registry = ModelStore(settings.upload_root), ContainersFile(settings.registry_path)
    store.load()
    registry.load()
    (original,) = store.all()
    progress(f"scale: registering {count:,} models")
    asyncio.run(_copy(store, registry, original, count))


async def _copy(store: ModelStore, registry: ContainersFile, original: ModelVersion, count: int) -> None:
    for number in range(count):
        identity = structs.replace(original.identity, model_id=f"{number:012x}", name=f"registered-{number:04}")
        model = structs.replace(original, identity=identity)
        shutil.copytree(store.folder(original.model_id), store.folder(model.model_id), copy_function=os.link)
        await store.save(model)
        await registry.save(
            Deployment(model.model_id, model.name, model.version, Status.STOPPED, False, created_at=identity.created_at)
        )


@contextmanager
def _idle(crowded: Gateway, count: int) -> Iterator[Callable[[], int]]:
    """Holds them open; the callable says how many there still are."""
    progress(f"scale: opening {count:,} connections")
    command = [sys.executable, "-m", "scripts.benchmark.idle", str(crowded.port), str(count)]
    command.append(f"/models/{KIND.name}/predict")
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    answers = process.stdout

    def ask_it(line: str) -> str:
        print(line, file=process.stdin, flush=True)
        return answers.readline().strip()

    try:
        opened = ask_it(models.single_rows()[0].decode())
        if opened != f"open {count}":
            raise SystemExit(f"bench: {count} idle connections could not be opened ({opened or 'see above'})")
        yield lambda: int(ask_it(""))
    finally:
        process.stdin.close()
        process.wait(60)


def _connections_allowed() -> int:
    """Return how many connections the limit of open files allows in one process, as the gateway holds them all in one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard - SPARE_FILES)
    if allowed < CONNECTIONS:
        progress(f"scale: only {allowed:,} idle connections; the hard limit of open files is {hard:,}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return allowed
