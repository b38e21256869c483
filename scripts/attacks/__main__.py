"""Attack a PRISM of this checkout and print what came of it; scripts/attack tells how."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.attacks import artifacts, callers, disk, neighbours, probes, replica_kills, writes
from scripts.attacks.canary import Canary
from scripts.attacks.outcome import Outcome, table
from scripts.attacks.server import Attacked

REQUESTS = 5000
GATEWAY_KILLS = 20


class Attack:
    """Where the attacks take place. seconds: how long each bombardment lasts."""

    def __init__(self, folder: Path, targets: list[str], seconds: float) -> None:
        self.folder = folder
        self.targets = targets
        self.seconds = seconds
        self.environments = folder / "environments"
        self.healthy = folder / "iris.pkl"
        self.healthy.write_bytes(trained())
        self._numbers = iter(range(1000))

    def server(self, target: str = "process", **settings: str) -> Attacked:
        return Attacked(self.folder / f"home-{next(self._numbers)}", target, self.environments, **settings)

    def artifacts(self) -> Iterator[Outcome]:
        with Canary(self.folder / "canary") as canary, self.server(PRISM_INSPECT_TIMEOUT_SECONDS="60") as server:
            yield artifacts.run(server, canary, self.healthy.read_bytes())

    def probes(self) -> Iterator[Outcome]:
        for target in self.targets:
            with Canary(self.folder / f"canary-{target}") as canary, self.server(target) as server:
                yield probes.run(server, canary, self.folder / f"host-{target}")

    def requests(self) -> Iterator[Outcome]:
        with self.server() as server:
            server.deploy(self.healthy, "iris")
            yield callers.run(server, REQUESTS)

    def neighbours(self) -> Iterator[Outcome]:
        with self.server() as server:
            server.deploy(self.healthy, "iris")
            yield neighbours.under_uploads(server, COSTLY, self.seconds)
            yield neighbours.under_a_liar(server, self.seconds)

    def replicas(self) -> Iterator[Outcome]:
        for count in (2, 1):
            with self.server() as server:
                server.deploy(self.healthy, "iris", replicas=str(count))
                yield replica_kills.run(server, count, self.seconds)

    def writes(self) -> Iterator[Outcome]:
        with self.server() as server:
            yield writes.run(server, GATEWAY_KILLS)

    def disk(self) -> Iterator[Outcome]:
        if os.getuid():
            print("attack: a full disk is left out, for only root can mount a small one", file=sys.stderr)
            return
        with disk.small_disk(self.folder / "disk") as small:
            yield disk.run(small, self.environments, self.healthy)


OBJECTS = 3_000_000
COSTLY = zlib.compress(b"\x80\x02" + b"}" * OBJECTS + b"0" * (OBJECTS - 1) + b".", 9) + random.Random(9).randbytes(
    140_000
)
"""150 kB that take a reader seconds and hundreds of MiB."""

SCENARIOS: dict[str, Callable[[Attack], Iterator[Outcome]]] = {
    "artifacts": Attack.artifacts,
    "probes": Attack.probes,
    "requests": Attack.requests,
    "neighbours": Attack.neighbours,
    "replicas": Attack.replicas,
    "writes": Attack.writes,
    "disk": Attack.disk,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/attack", description="Attack a PRISM of this checkout.")
    parser.add_argument("scenarios", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=float, default=20, help="duration of each attack (default: 20)")
    parser.add_argument("--targets", default="process,docker", help="default: process,docker, if Docker answers")
    arguments = parser.parse_args()
    targets = [target for target in arguments.targets.split(",") if target != "docker" or docker_answers()]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="prism-attack-", dir="/var/tmp") as folder:
        # Not in /tmp, of which a replica has one of its own; open to all, so that only the sandbox keeps anyone out.
        Path(folder).chmod(0o755)
        attack = Attack(Path(folder), targets, arguments.seconds)
        for name in arguments.scenarios or SCENARIOS:
            for outcome in SCENARIOS[name](attack):
                print(f"attack: {outcome.attack}: {outcome.figures}", file=sys.stderr, flush=True)
                outcomes.append(outcome)
    print(table(outcomes))
    breaches = [breach for outcome in outcomes for breach in outcome.breaches]
    for breach in breaches:
        print(f"attack: BREACH: {breach}", file=sys.stderr)
    sys.exit(1 if breaches else 0)


def trained() -> bytes:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, labels = load_iris(return_X_y=True)
    return pickle.dumps(LogisticRegression(max_iter=500).fit(features, labels))


def docker_answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    main()
