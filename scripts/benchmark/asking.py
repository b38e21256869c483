"""Load by PRISM's own generator (prism/load), and its figures as the tables show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prism.load import Latencies, Result
from prism.load import run as load
from scripts.benchmark.servers import KEY

HEADERS = {"X-API-Key": KEY}


def ask(
    url: str,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    rate: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Result:
    """rate: requests a second in an open loop; None is a closed one. headers: besides the key."""
    own = {**HEADERS, **(headers or {})}
    return load(url, bodies, connections=connections, seconds=seconds, rate=rate, headers=own)


def percentiles_ms(latencies: Sequence[Latencies], *percents: float) -> list[list[float]]:
    """For each percentile, its figure of each round."""
    return [[latency.percentile(percent) * 1000 for latency in latencies] for percent in percents]


def client_note(results: Sequence[Result]) -> str:
    """How near the generator was to being what is measured."""
    most = max(result.client_cpu_share for result in results)
    lag_ms = max(result.lag.percentile(99) for result in results) * 1000
    note = f"the load generator used at most {most:.0%} of a core"
    if lag_ms:
        note += f" and sent at most {lag_ms:.2f} ms late (p99)"
    bound = any(result.client_bound for result in results)
    return note + ("; it was the limit, so the servers can do more." if bound else ".")
