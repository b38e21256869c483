"""Start a peer, see that it predicts rightly, load it, and the echo right beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from scripts.peers import models
from scripts.peers.peer import ECHO, Peer, Setting, bodies, prediction_in, read_peer
from scripts.peers.server import Places, Server, serving

ECHO_SECONDS = 2.0
WARM_UP_SECONDS = 1.0


class Result(msgspec.Struct, frozen=True):
    """One line of the table. problem: why there is no number, or why the number does not count."""

    peer: str
    setting: str
    model: str
    connections: int
    per_second: float = 0.0
    ratio: float = 0.0
    p99_ms: float = 0.0
    errors: int = 0
    echo_per_second: float = 0.0
    echo_p99_ms: float = 0.0
    start_seconds: float = 0.0
    problem: str = ""


def check(peer: Peer, setting: Setting, server: Server, sample: models.Sample, count: int = 64) -> str:
    """Asks `count` rows, 16 at once so that they are batched; says what is wrong with the answers, or nothing."""
    rows = models.plain(sample.rows[:count])
    try:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(server.ask, bodies(setting.body or peer.body, rows)))
        predictions = [prediction_in(answer, peer.answer) for answer in answers]
    except (OSError, ValueError) as error:
        return f"does not predict: {error}"
    pairs = list(zip(predictions, sample.expected[:count], strict=True))
    wrong = [pair for pair in pairs if not models.is_right(*pair)]
    return f"{len(wrong)} of {count} predictions are wrong, such as {wrong[0][0]} for {wrong[0][1]}" if wrong else ""


def measure(
    name: str, setting: Setting, places: Places, sample: models.Sample, echo: Server, seconds: float
) -> list[Result]:
    """The lines for one setting and model: at 64 connections and at one. Never raises for the peer's own failures."""
    peer = read_peer(name)
    results = [Result(peer.title, setting.name, sample.name, connections) for connections in (64, 1)]
    try:
        with serving(name, peer, setting, places, sample) as server:
            problem = check(peer, setting, server, sample)
            if problem:
                return [msgspec.structs.replace(result, problem=problem) for result in results]
            server.load(64, WARM_UP_SECONDS)
            results = [_loaded(result, server, echo, seconds) for result in results]
            problem = check(peer, setting, server, sample)
            return [
                msgspec.structs.replace(result, problem=problem and f"after the load: {problem}") for result in results
            ]
    except (RuntimeError, OSError) as error:
        return [msgspec.structs.replace(result, problem=str(error)) for result in results]


def _loaded(result: Result, server: Server, echo: Server, seconds: float) -> Result:
    reference = echo.load(result.connections, min(ECHO_SECONDS, seconds))
    load = server.load(result.connections, seconds)
    return msgspec.structs.replace(
        result,
        per_second=load.per_second,
        ratio=load.per_second / reference.per_second,
        p99_ms=load.p99_ms,
        errors=load.errors,
        echo_per_second=reference.per_second,
        echo_p99_ms=reference.p99_ms,
        start_seconds=round(server.start_seconds, 1),
    )


@contextmanager
def echoing(places: Places, sample: models.Sample) -> Iterator[Server]:
    peer = read_peer(ECHO)
    with serving(ECHO, peer, peer.settings[0], places, sample) as server:
        yield server
