"""What `prism doctor` says of a server that runs, by what it answers."""

from __future__ import annotations

import os

import psutil
import pytest

from app.version import VERSION
from prism.cli.doctor import server_checks
from prism.cli.local_server import ServerRecord
from tests.unit.prism.small_server import SmallServer


def record(url: str) -> ServerRecord:
    return ServerRecord(os.getpid(), psutil.Process().create_time(), "127.0.0.1", 1, url)


def test_what_the_server_found_is_told_and_what_is_wrong_with_it(server: SmallServer) -> None:
    server.checks = [{"level": "ok", "name": "disk", "result": "9 GB free", "fix": ""}]
    server.version = VERSION
    found, itself = server_checks(record(server.url))
    assert (found.name, found.result) == ("disk", "9 GB free")
    assert (itself.level, itself.result) == ("ok", f"answers at {server.url} (pid {os.getpid()})")
    server.unavailable, server.down = ["docker"], ["m1"]
    _, itself = server_checks(record(server.url))
    assert itself.level == "fail"
    assert "docker does not answer; models that should be live are not: m1" in itself.result


def test_another_version_and_a_server_that_wants_a_key_are_warnings(server: SmallServer) -> None:
    server.version, server.key = "0.0.1", "right"
    found, itself = server_checks(record(server.url))
    assert (found.level, found.name) == ("warn", "server's own checks")
    assert itself.level == "warn"
    assert f"version 0.0.1, this command {VERSION}" in itself.result


def test_a_server_that_does_not_answer_is_a_failure(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (itself,) = server_checks(record(f"http://127.0.0.1:{closed_port}"))
    assert (itself.level, itself.name) == ("fail", "server")
