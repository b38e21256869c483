"""What every scenario is given, and the servers it begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from scripts.benchmark import servers
from scripts.benchmark.models import Kind
from scripts.benchmark.report import Report, progress
from scripts.benchmark.servers import Gateway, Reference

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """seconds: length of one round. folder: temporary. environments: where those of the models are kept."""

    folder: Path
    environments: Path
    targets: Sequence[str]
    seconds: float
    rounds: int
    report: Report
    environment_hashes: set[str] = field(default_factory=set)
    """Hashes of the environments of all deployed models; on docker, each is an image."""

    @property
    def models(self) -> Path:
        """Folder of the model files."""
        return self.folder / "models"

    @contextmanager
    def gateways(self, scenario: str, kinds: Sequence[Kind], **settings: str) -> Iterator[list[Gateway]]:
        """One for each target, each serving the models."""
        with ExitStack() as stack:
            started = []
            for target in self.targets:
                home = self.folder / f"{scenario}-{target}"
                gateway = stack.enter_context(servers.gateway(target, home, self.environments, **settings))
                for kind in kinds:
                    progress(f"{scenario}: {kind.title} on {target}")
                    model = gateway.deploy(self.models / kind.file, kind.name)
                    self.environment_hashes.update([model.environment.hash] if model.environment else [])
                started.append(gateway)
            yield started


class CpuMeter:
    """CPU time of a gateway and of one of its replicas, in µs a request, a figure for each round.

    Of a noisy machine this is the steadier number: waiting for a processor that others use is not in it.
    """

    def __init__(self, gateway: Gateway | Reference, name: str) -> None:
        self._gateway = gateway
        self._name = name
        self.gateway_us: list[float] = []
        self.runtime_us: list[float] = []

    def measure(self, work: Callable[[], T], requests: Callable[[T], int]) -> T:
        """Do one round. requests: how many a result of it stands for."""
        before = self._gateway.cpu_seconds(self._name)
        result = work()
        after = self._gateway.cpu_seconds(self._name)
        scale = 1e6 / max(1, requests(result))
        self.gateway_us.append((after[0] - before[0]) * scale)
        self.runtime_us.append((after[1] - before[1]) * scale)
        return result
