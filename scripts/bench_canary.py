"""Measure what a bad candidate costs: failed requests at callers, and the time until it is rolled back.

    .venv/bin/python scripts/bench_canary.py [--runs 20] [--cycles 20] [--kills 50] [--only dies]

Linux. Starts a PRISM of its own on loopback, with its models as processes, in a temporary home. Each candidate gets 5 %
of 50 requests a second; then good ones are promoted and rolled back at 200 a second, the gateway is killed while it does
that, and 10,000 requests are split. Prints Markdown. A figure without a rollback, and any failed request, ends it with 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.benchmark.canaries import (
    BODIES,
    FAULTS,
    GOOD,
    NAME,
    OWN_FAULTS,
    RATE,
    Canaries,
    Load,
)
from scripts.benchmark.processes import machine
from tests.acceptance.server import Server

CYCLE_RATE = 200.0
WARM_UP_SECONDS = 6.0
"""After 200 answers, the bound for late answers is derived from the stable version's latencies."""

KILL_WITHIN_SECONDS = 0.1
SPLIT = 10_000


def main() -> int:
    arguments = parsed()
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, Python {here['python']}, commit {here['commit']}\n")
    with tempfile.TemporaryDirectory(prefix="prism-canary-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        server = Server(home, Path(folder) / "environments", PRISM_TARGET="process")
        server.start()
        try:
            canaries = Canaries(server.http)
            for version in OWN_FAULTS:
                canaries.deploy(Path(folder), version)
            faults = [name for name in FAULTS if not arguments.only or name in arguments.only]
            is_well = bad_candidates(server, faults, arguments.runs)
            if arguments.cycles:
                is_well &= cycles(server, Path(folder), arguments.cycles)
            if arguments.split:
                is_well &= split(server)
            if arguments.kills:
                is_well &= kills(server, arguments.kills)
        finally:
            if not server.runs:
                server.start()
            server.stop()
    return 0 if is_well else 1


def bad_candidates(server: Server, names: Sequence[str], runs: int) -> bool:
    canaries, is_well = Canaries(server.http), True
    print(f"5 % of {RATE:g} requests/s, limit 2 %, {runs} runs each\n")
    print("| candidate | rolled back | mean s | p95 s | slowest s | requests | failed | callers' p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        seconds: list[float] = []
        with Load(server.url) as load:
            time.sleep(WARM_UP_SECONDS)
            for _ in range(runs):
                try:
                    seconds.append(canaries.until_rolled_back(FAULTS[name]).seconds)
                except TimeoutError as error:
                    print(f"{name}: {error}", file=sys.stderr)
        result = load.result
        assert result is not None
        is_well &= not load.failures and len(seconds) == runs
        figures = (
            f"{statistics.mean(seconds):.2f} | {at(seconds, 0.95):.2f} | {max(seconds):.2f}" if seconds else "– | – | –"
        )
        p99 = result.latency.percentile(99) * 1000
        print(
            f"| {name} | {len(seconds)} of {runs} | {figures} | {result.answered:,} | {result.failed} | {p99:.0f} |",
            flush=True,
        )
        if load.failures:
            print(load.failures, file=sys.stderr)
    return is_well


def cycles(server: Server, folder: Path, count: int) -> bool:
    canaries = Canaries(server.http)
    with Load(server.url, CYCLE_RATE) as load:
        took = [canaries.whole_life(folder) * 1000 for _ in range(count)]
    assert load.result is not None
    print(
        f"\n{count} × register → canary → promote → rollback at {CYCLE_RATE:g} requests/s: {load.result.failed} of {load.result.answered:,}"
    )
    print(
        f"failed. Rollback right after the promotion: median {statistics.median(took):.1f} ms, p95 {at(took, 0.95):.1f} ms, "
    )
    print(f"slowest {max(took):.1f} ms, as the admin's client sees it.", flush=True)
    return not load.failures


def split(server: Server) -> bool:
    canaries = Canaries(server.http)
    rollout_id = canaries.begin(GOOD, bake_seconds=3600)
    path = f"/models/{NAME}/predict"
    counts = Counter(
        server.http.post(path, content=BODIES[number % len(BODIES)]).headers["x-model-version"]
        for number in range(SPLIT)
    )
    canaries.command(rollout_id, "rollback")
    canaries.wait_for_stop(GOOD)
    print(f"\n{SPLIT:,} requests at 5 %: {counts[GOOD]} went to the candidate, exact is {SPLIT // 20}.", flush=True)
    return abs(counts[GOOD] - SPLIT // 20) <= 3


def kills(server: Server, count: int) -> bool:
    canaries, random = Canaries(server.http), Random(1)
    states: Counter[str] = Counter()
    for number in range(count):
        command = ("promote", "rollback")[number % 2]
        states[f"{command}: {canaries.killed_in(command, server, random.uniform(0, KILL_WITHIN_SECONDS))}"] += 1
    told = ", ".join(f"{state} {times} times" for state, times in sorted(states.items()))
    print(f"\nkill -9 in {count} promotions and rollbacks: one state and one version each time ({told}).")
    return True


def at(values: Sequence[float], share: float) -> float:
    """Return a quantile, as the value at or above it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=20, help="of each bad candidate")
    parser.add_argument("--cycles", type=int, default=20, help="promotions with their rollback; 0 for none")
    parser.add_argument("--kills", type=int, default=50, help="of the gateway; 0 for none")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="only this candidate; may be repeated")
    parser.add_argument("--no-split", dest="split", action="store_false", help="do not count 10,000 requests")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
