"""A hostile model shares its process with the runtime: it finds the gateway's connection there, and writes to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.python_mode_lab import zipped
from tests.acceptance.server import Server, wait_for

pytestmark = pytest.mark.slow

LIAR = r"""
import os
import stat
import struct

HEADER = struct.Struct("<IIBBH")
ANSWERS, PONG, PART = 4, 6, 8
LIES = {
    "garbage": lambda: [b"\xff" * 4096],
    "torn": lambda: [b"\x00\x00"],
    "two answers": lambda: [
        HEADER.pack(24, number, ANSWERS, 0, 2) + struct.pack("<IIIHHIHH", 0, 0, 0, 200, 0, 0, 200, 0)
        for number in range(1, 200)
    ],
    "flood": lambda: [HEADER.pack(0, 0, PONG, 0, 0) * 50_000] * 20,
    "gibibyte": lambda: [HEADER.pack(1 << 30, 1, ANSWERS, 0, 1), *[bytes(1 << 20)] * 1024],
    "deep": lambda: [deep(number) for number in range(1, 200)],
}


def deep(number):
    body = b'{"detail":' + b"[" * 5000 + b"]" * 5000 + b"}"
    return HEADER.pack(16 + len(body), number, ANSWERS, 0, 1) + struct.pack("<IIIHH", 0, 0, len(body), 500, 2) + body


def connections():
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                yield number
        except OSError:
            pass


class Liar:
    def load(self, folder):
        pass

    def predict(self, rows):
        lie = rows[0]["lie"]
        for number in connections() if lie in LIES else ():
            try:
                for part in LIES[lie]():
                    while part:
                        part = part[os.write(number, part):]
            except OSError:
                pass
        return [1 for _ in rows]
"""
STEADY = """
class Steady:
    def load(self, folder):
        pass

    def predict(self, rows):
        return [2 for _ in rows]
"""
SAMPLE = '{"features": [{"lie": "none"}]}'
LIES = ("garbage", "torn", "two answers", "flood", "gibibyte", "deep")


@contextmanager
def asked_meanwhile(server: Server) -> Iterator[list[int]]:
    """The statuses of another model's requests, one after another."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(server.predict("steady", {"features": [{"lie": "none"}]}).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def lie(server: Server, what: str) -> int:
    return server.predict("liar", {"features": [{"lie": what}]}).status_code


@pytest.fixture
def here(start_server: StartServer, target: str, tmp_path: Path) -> Server:
    server = start_server(PRISM_TARGET=target, PRISM_SINGLE_ACTIVE_MODEL="false", PRISM_RATE_LIMIT_REQUESTS="0")
    for name, code in (("liar", LIAR), ("steady", STEADY)):
        files = {f"{name}/model.py": code, f"{name}/sample_input.json": SAMPLE}
        server.deploy(zipped(tmp_path, files, f"{name}.zip"))
    return server


def test_a_model_that_writes_to_its_connection_fails_its_own_requests_alone(here: Server) -> None:
    assert here.process is not None
    gateway = psutil.Process(here.process.pid)
    lie(here, "none")
    before = gateway.memory_info().rss
    with asked_meanwhile(here) as statuses:
        for what in LIES:
            wait_for(lambda: lie(here, "none") == 200, 60, "the liar is reached again")
            assert lie(here, what) == 502, what
            assert gateway.memory_info().rss - before < 64 << 20, what
    assert set(statuses) == {200}
