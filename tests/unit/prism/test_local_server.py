from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.errors import Conflict
from prism.cli import local_server
from prism.cli.output import duration, size, table


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def write_record(run_folder: Path, pid: int, started: float) -> None:
    run_folder.mkdir(exist_ok=True)
    record = {"pid": pid, "started": started, "host": "127.0.0.1", "port": 8000, "url": "http://127.0.0.1:8000"}
    local_server.record_path(run_folder).write_text(json.dumps(record))


def test_a_server_is_known_by_its_pid_and_start_time(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    write_record(tmp_path, sleeper.pid, psutil.Process(sleeper.pid).create_time())
    record = local_server.running(tmp_path)
    assert record is not None
    process = local_server.process_of(record)
    assert process is not None
    assert process.memory_bytes > 0


def test_a_record_whose_pid_is_anothers_by_now_is_removed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    write_record(tmp_path, sleeper.pid, psutil.Process(sleeper.pid).create_time() - 100)
    assert local_server.running(tmp_path) is None
    assert not local_server.record_path(tmp_path).exists()
    assert sleeper.poll() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_a_damaged_record_is_no_server(tmp_path: Path, content: str) -> None:
    local_server.record_path(tmp_path).write_text(content)
    assert local_server.running(tmp_path) is None


def test_a_stopped_server_leaves_no_record(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    write_record(tmp_path, sleeper.pid, psutil.Process(sleeper.pid).create_time())
    record = local_server.running(tmp_path)
    assert record is not None
    local_server.stop(record, tmp_path, keep_models=False, wait_seconds=10)
    assert not local_server.record_path(tmp_path).exists()
    assert local_server.process_of(record) is None


def test_a_taken_port_is_named_with_its_holder_and_another_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "PORT_PATIENCE_SECONDS", 0.1)
    told: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port} on 127.0.0.1 is taken") as raised:
            local_server.check_port("127.0.0.1", port, told.append)
    assert [line.partition(" in use")[0] for line in told] == [f"Port {port} on 127.0.0.1 is"], "once"
    assert "prism run " in raised.value.hint
    local_server.check_port("127.0.0.1", 0, told.append)


def test_a_port_that_becomes_free_is_waited_for() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    told: list[str] = []

    def leave(text: str) -> None:
        told.append(text)
        taken.close()

    local_server.check_port("127.0.0.1", taken.getsockname()[1], leave)
    assert len(told) == 1


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(12, "12 B"), (3400, "3.4 kB"), (2.1e9, "2.1 GB"), (5e12, "5000.0 GB")]
)
def test_sizes_read_well(size_bytes: float, text: str) -> None:
    assert size(size_bytes) == text


def test_a_table_aligns_its_columns_and_drops_control_characters() -> None:
    assert table(("A", "B"), [("long\x1b", "x"), ("s", "yy")]) == "A      B\nlong�  x\ns      yy"
