"""Replicas that are killed again and again under a constant rate of requests: callers wait a moment, and none is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from prism.load import Result, load
from tests.acceptance.conftest import StartServer
from tests.acceptance.iris import ROW
from tests.acceptance.replicas_lab import kill
from tests.acceptance.server import Server, problem, wait_for

pytestmark = pytest.mark.slow

RATE = 200.0
BODY = b'{"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}'


class ConstantRate:
    """Asks `iris` 200 times a second, whatever comes of it, until the block ends."""

    def __init__(self, server: Server) -> None:
        self._url = f"{server.url}/models/iris/predict"
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))
        self._results: list[Result] = []

    async def _ask(self) -> None:
        stop = asyncio.Event()
        asking = asyncio.create_task(
            load(self._url, [BODY], seconds=300, rate=RATE, connections=1000, grace_seconds=30, stop=stop)
        )
        await asyncio.to_thread(self._over.wait)
        stop.set()
        self._results.append(await asking)

    def __enter__(self) -> ConstantRate:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def outcome(self) -> dict[str, Any]:
        (result,) = self._results
        told = {str(status): answers.count for status, answers in result.answers.items()}
        return {**told, **result.failures, **({"unanswered": result.unanswered} if result.unanswered else {})}


def next_one(server: Server, killed: set[str]) -> dict[str, Any]:
    """The only replica that was not killed, once there is one."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = serving(server, killed)
        return len(found) == 1

    wait_for(is_there, 60, "the next one")
    return found[0]


def serving(server: Server, killed: set[str]) -> list[dict[str, Any]]:
    return [one for one in server.model("iris")["replicas"] if one["id"] not in killed]


def test_two_replicas_of_which_one_is_killed_each_second_refuse_nobody_and_are_soon_back(
    start_server: StartServer, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(iris_file, model_name="iris", replicas="2")
    killed: set[str] = set()
    with ConstantRate(server) as asking:
        for _ in range(12):
            time.sleep(1)
            for one in serving(server, killed)[:1]:
                kill(one, server)
                killed.add(one["id"])
        wait_for(lambda: len(serving(server, killed)) == 2, 30, "both replicas")
    assert len(killed) >= 3
    assert asking.outcome.keys() == {"200"}, asking.outcome
    assert asking.outcome["200"] > 12 * RATE / 2


def test_the_only_replica_is_killed_three_times_and_whoever_asks_meanwhile_waits_for_the_next(
    start_server: StartServer, target: str, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET=target)
    server.deploy(iris_file, model_name="iris")
    killed: set[str] = set()
    with ConstantRate(server) as asking:
        for _ in range(3):
            one = next_one(server, killed)
            time.sleep(0.5)
            kill(one, server)
            killed.add(one["id"])
        next_one(server, killed)
    assert asking.outcome.keys() == {"200"}, asking.outcome
    assert {restart["reason"] for restart in server.model("iris")["restarts"]}


def test_a_model_that_cannot_come_back_is_refused_with_the_reason_and_comes_back_once_it_can(
    start_server: StartServer, iris_file: Path
) -> None:
    server = start_server(PRISM_TARGET="process")
    server.deploy(iris_file, model_name="iris")
    (artifact,) = server.home.glob("model_store/uploads/*/artifact/iris.joblib")
    away = artifact.rename(server.home / "away")
    kill(server.model("iris")["replica"], server)
    told = problem(server.predict("iris", ROW))
    assert (told["status"], told["code"]) == (503, "replica_unavailable")
    assert "did not load" in told["detail"]
    assert server.model("iris")["status"] == "unhealthy"
    assert "did not load" in problem(server.predict("iris", ROW))["detail"], "the next one need not wait"
    away.rename(artifact)
    wait_for(lambda: server.predict("iris", ROW).status_code == 200, 90, "the model's coming back")
