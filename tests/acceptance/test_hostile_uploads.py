"""Eight uploads at once that cost seconds and hundreds of MiB each: the server answers meanwhile, and refuses them."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.acceptance.server import Server, wait_for

pytestmark = pytest.mark.slow

UPLOADS, OBJECTS = 8, 1_000_000
GROWTH_MAX_BYTES = 100 << 20
SECONDS = 900


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(
        tmp_path, tmp_path / "environments", PRISM_ADMIN_KEYS="a-secret", PRISM_INSPECT_TIMEOUT_SECONDS=SECONDS
    )
    server.start()
    server.http.headers["X-API-Key"] = "a-secret"
    yield server
    server.stop()


def test_the_gateway_stays_small_and_answers_while_they_are_read(server: Server) -> None:
    assert server.process is not None
    gateway = psutil.Process(server.process.pid)
    hostile = zlib.compress(b"\x80\x02" + b"}" * OBJECTS + b"0" * (OBJECTS - 1) + b".", 9) + os.urandom(140_000)
    answers: list[httpx2.Response] = []

    def upload(number: int) -> None:
        headers = {"X-Request-ID": f"upload-{number}", **server.http.headers}
        files = {"file": (f"{number}.pkl", hostile)}
        answers.append(httpx2.post(f"{server.url}/models/inspect", files=files, headers=headers, timeout=SECONDS))

    before = gateway.memory_info().rss
    threads = [threading.Thread(target=upload, args=(number,)) for number in range(UPLOADS)]
    for thread in threads:
        thread.start()
    places: list[list[int]] = []
    largest = readers = 0

    def done() -> bool:
        nonlocal largest, readers
        assert server.http.get("/health").status_code == 200
        told = server.http.get("/inspections").json()["inspections"]
        places.append([one["place"] for one in told])
        assert {one["request_id"] for one in told} <= {f"upload-{number}" for number in range(UPLOADS)}
        largest = max(largest, gateway.memory_info().rss)
        readers = max(readers, len(gateway.children()))
        return len(answers) == UPLOADS

    wait_for(done, SECONDS, "the end of all uploads")
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {422}
    assert all(answer.json()["code"] == "unreadable_artifact" and answer.json()["hint"] for answer in answers)
    assert all(one.count(0) <= 2 for one in places)
    assert any(place > 0 for one in places for place in one)
    assert readers <= 2
    assert largest - before < GROWTH_MAX_BYTES
    assert list((server.home / "model_store" / "uploads").iterdir()) == []
