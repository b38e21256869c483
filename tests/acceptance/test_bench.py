"""`prism bench` on a real model: what a person and a machine read of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, wait_for

SAMPLE = CHECKOUT / "model_store" / "samples" / "iris" / "iris.onnx"


@pytest.fixture
def iris(start_server: StartServer) -> Server:
    server = start_server(PRISM_TARGET="process", PRISM_API_KEYS="right")
    server.http.headers["X-API-Key"] = "right"
    server.deploy(SAMPLE, model_name="iris")
    return server


def bench(server: Server, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prism.cli", "bench", "iris", "--url", server.url, *arguments]
    environ = {**os.environ, "PRISM_API_KEY": "right"}
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def measured(server: Server, *arguments: str) -> dict[str, Any]:
    process = bench(server, *arguments, "--json")
    told: dict[str, Any] = json.loads(process.communicate(timeout=30)[0])
    assert process.returncode == 0
    assert told["statuses"].keys() == {"200"}
    assert (told["failures"], told["unanswered"]) == ({}, 0)
    return told


def test_a_models_own_sample_is_asked_with_one_row_with_many_and_at_a_rate(iris: Server) -> None:
    for arguments, rows in ((("-c", "8"), 1), (("-c", "2", "--rows", "64"), 64)):
        told = measured(iris, *arguments, "-d", "0.5")
        assert told["rows_per_request"] == rows
        # Both are rounded to a tenth.
        assert told["rows_per_second"] == pytest.approx(told["requests_per_second"] * rows, abs=0.1 * rows)
    told = measured(iris, "--rate", "200", "-d", "1")
    assert told["statuses"]["200"]["answers"] + told["unsent"] == pytest.approx(200, abs=1), "each that was due is told"


def test_ctrl_c_ends_it_with_what_was_measured(iris: Server) -> None:
    process = bench(iris, "-c", "8", "-d", "60")
    client = psutil.Process(process.pid)
    wait_for(lambda: len(client.net_connections()) > 8, 30, "the load's connections")  # one is the SDK's own
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "requests/s" in told
