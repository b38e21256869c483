"""Measure PRISM beside a bare ASGI echo, in one run, on this machine.

    .venv/bin/python scripts/bench.py                                  every scenario, on the process target
    .venv/bin/python scripts/bench.py road --targets process,docker    one, both targets side by side
    .venv/bin/python scripts/bench.py sustained batches --seconds 2 --rounds 1 --json bench.json

Scenarios: road (1, 64, 256 connections, one row), sustained (500 requests/s), batches (256 rows a request beside
memory), overload (twice the peak), scale (1,000 models, 10,000 keys, 10,000 idle connections), generator (PRISM's own
load generator beside wrk). Each starts servers of its own on loopback, in a temporary folder, and ends them. `road` and
`generator` need wrk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.benchmark import batches, generator, models, overload, road, scale, sustained
from scripts.benchmark.bench import Bench
from scripts.benchmark.processes import machine
from scripts.benchmark.report import Report, progress

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "road": road.run,
    "sustained": sustained.run,
    "batches": batches.run,
    "overload": overload.run,
    "scale": scale.run,
    "generator": generator.run,
}
TARGETS = ("process", "docker")


def main() -> None:
    arguments = parsed()
    for name in [name for name in os.environ if name.startswith(("PRISM_", "MODEL_"))]:
        del os.environ[name]  # what is measured is PRISM as it comes
    report = Report(machine(), {"seconds": arguments.seconds, "rounds": arguments.rounds})
    before = docker_environments() if "docker" in arguments.targets else set()
    with tempfile.TemporaryDirectory(prefix="prism-bench-") as folder:
        environments = arguments.environments or Path(folder) / "environments"
        bench = Bench(
            Path(folder), environments.resolve(), arguments.targets, arguments.seconds, arguments.rounds, report
        )
        progress("training and converting the models")
        models.make(bench.models)
        report.begin()
        try:
            for name in arguments.scenarios or SCENARIOS:
                SCENARIOS[name](bench)
        finally:
            if arguments.json:
                report.write(arguments.json)
            if "docker" in arguments.targets and not arguments.environments:
                made = {f"prism_env_{hash}:latest" for hash in bench.environment_hashes}
                remove_images((docker_environments() & made) - before)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--targets", default=os.environ.get("PRISM_TARGET", "process"), help="process, docker, or both")
    parser.add_argument("--seconds", type=float, default=5, help="length of a round (at most 60)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (at most 20)")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--environments", type=Path, help="folder that keeps the models' environments between runs")
    arguments = parser.parse_args()
    arguments.targets = arguments.targets.split(",")
    for given, known in ((arguments.scenarios, SCENARIOS), (arguments.targets, TARGETS)):
        if unknown := set(given) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    if not (1 <= arguments.seconds <= 60 and 1 <= arguments.rounds <= 20):
        parser.error("--seconds is 1 to 60, --rounds 1 to 20")
    return arguments


def docker_environments() -> set[str]:
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {image for image in listed if image.startswith("prism_env_")}


def remove_images(images: set[str]) -> None:
    if images:
        subprocess.run(["docker", "rmi", *sorted(images)], capture_output=True, check=False)


if __name__ == "__main__":
    main()
