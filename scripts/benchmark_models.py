"""What models do in memory, and what the servers make of it.

    .venv/bin/python scripts/benchmark_models.py --iterations 2000       in memory: rows a second, latency
    .venv/bin/python scripts/benchmark_models.py --peers [NAME ...]      the servers, PRISM among them, side by side
    .venv/bin/python scripts/benchmark_models.py --chart RESULTS.json    docs/images/peers.svg from --json's file

Needs the dev group (`./scripts/setup dev`); --peers also needs wrk, and a package index the first time. Each peer runs
from a copy of its folder under scripts/peers/, in a virtual environment of its own, and is loaded over loopback.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from scripts.peers import baseline, table
from scripts.peers.chart import svg
from scripts.peers.environment import CannotInstall, binaries
from scripts.peers.measure import Result, echoing, measure
from scripts.peers.models import MODELS, Sample, train
from scripts.peers.peer import ECHO, Setting, peer_names, read_peer
from scripts.peers.server import Places

CHECKOUT = Path(__file__).resolve().parent.parent
CHART = CHECKOUT / "docs" / "images" / "peers.svg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prism-bench"


class Report(msgspec.Struct, frozen=True):
    """What --json writes. pins: each measured peer's requirements."""

    machine: str
    commit: str
    command: str
    baselines: list[baseline.Baseline] = []
    peers: list[Result] = []
    pins: dict[str, list[str]] = {}


def main() -> None:
    arguments = parse()
    if arguments.chart:
        results = msgspec.json.decode(arguments.chart.read_bytes(), type=Report).peers
        CHART.parent.mkdir(parents=True, exist_ok=True)
        CHART.write_text(svg(results))
        return
    if arguments.peers is None:
        baselines = list(baseline.baselines(arguments.iterations, arguments.seconds))
        print(baseline.markdown(baselines))
        write(arguments.json, baselines=baselines)
        return
    names = arguments.peers or peer_names()
    results = side_by_side(names, arguments.work, arguments.seconds, arguments.models)
    print(f"{machine()}, {commit()}, {arguments.seconds:g} s a measurement\n")
    print(table.markdown(results))
    write(arguments.json, peers=results, pins={name: pins(name) for name in names})


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=2000, help="maximum number of calls of each model in memory")
    parser.add_argument("--seconds", type=float, default=5.0, help="maximum duration of one measurement")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help=f"servers to measure: {', '.join(peer_names())}")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="models that the peers serve")
    parser.add_argument("--work", type=Path, default=CACHE, metavar="DIR", help="folder that keeps the environments")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    parser.add_argument("--chart", type=Path, metavar="FILE", help=f"draw {CHART.relative_to(CHECKOUT)} from results")
    arguments = parser.parse_args(words)
    unknown = set(arguments.peers or ()) - set(peer_names())
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(peer_names())}")
    if arguments.iterations < 1 or arguments.seconds <= 0:
        parser.error("--iterations and --seconds must be more than 0")
    if arguments.peers is not None and shutil.which("wrk") is None:
        parser.error("wrk is not installed (Debian: apt-get install wrk; macOS: brew install wrk)")
    return arguments


def side_by_side(names: Sequence[str], cache: Path, seconds: float, model_names: Sequence[str]) -> list[Result]:
    """Every setting of every named peer with every model, one after another. Progress goes to stderr."""
    # Unwinds as Ctrl-C does, so that the servers are stopped: left alone, SIGTERM would end this process on the spot.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results: list[Result] = []
    samples = [train(name) for name in model_names]
    programs = {name: installed(name, cache) for name in names}
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        echoing(Places(binaries(ECHO, cache), Path(folder), cache), samples[0]) as echo,
    ):
        for name, setting, sample in runs(names, samples):
            directory = programs[name]
            if isinstance(directory, CannotInstall):
                lines = [not_installed(read_peer(name).title, setting.name, sample.name, directory)]
            else:
                with tempfile.TemporaryDirectory(dir=folder) as work:
                    lines = measure(name, setting, Places(directory, Path(work), cache), sample, echo, seconds)
            print("\n".join(map(table.line, lines)), file=sys.stderr, flush=True)
            results += lines
    return results


def runs(names: Sequence[str], samples: Sequence[Sample]) -> Iterator[tuple[str, Setting, Sample]]:
    for name in names:
        for setting in read_peer(name).settings:
            for sample in samples:
                yield name, setting, sample


def installed(name: str, cache: Path) -> Path | CannotInstall:
    try:
        return binaries(name, cache)
    except CannotInstall as error:
        return error


def not_installed(title: str, setting: str, model: str, error: CannotInstall) -> Result:
    return Result(title, setting, model, 64, problem=f"cannot be installed here: {error}")


def pins(name: str) -> list[str]:
    file = CHECKOUT / "scripts" / "peers" / name / "requirements.txt"
    return file.read_text().splitlines() if file.exists() else []


def write(file: Path | None, **results: Any) -> None:
    if file is not None:
        report = Report(machine(), commit(), " ".join(sys.argv), **results)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def commit() -> str:
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "no commit"


if __name__ == "__main__":
    main()
