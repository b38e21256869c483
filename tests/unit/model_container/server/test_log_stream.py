"""What a replica prints: to a log file, and to a log that takes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_container.contract.logfile import TIME, split_timestamp
from tests.acceptance.server import CHECKOUT

SAY = """
import sys
from model_container.server.log_stream import prepare_log_streams
prepare_log_streams()
print("ä" * 20000, flush=True)
print("y", file=sys.stderr)
sys.stdout.flush()
"""
MIXED = """
import sys
from model_container.server.log_stream import prepare_log_streams
prepare_log_streams()
print("one\\ntwo")
print("three", end="")
sys.stdout.flush()
print(" and four", file=sys.stderr)
print()
import os; os.write(1, b"past Python's streams\\n")
print("five")
"""
FULL = Path("/dev/full")


def said(script: str = SAY, **streams: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, check=False, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here; use Linux")
def test_a_log_line_that_does_not_fit_is_dropped_without_an_error() -> None:
    with FULL.open("wb") as full:
        assert said(stdout=full, stderr=full).returncode == 0


def test_a_line_of_a_log_file_begins_with_its_time_and_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runtime.log"
    with path.open("ab") as log:
        began = datetime.now(UTC)
        said(MIXED, stdout=log, stderr=log)
    lines = [split_timestamp(line) for line in path.read_bytes().splitlines()]
    assert [text for _, text in lines] == [b"one", b"two", b"three and four", b"", b"past Python's streams", b"five"]
    times = [time for time, _ in lines]
    assert times.pop(4) == ""
    assert all(re.fullmatch(TIME, time) for time in times)
    assert times == sorted(times)
    assert began <= datetime.fromisoformat(times[0]) <= datetime.now(UTC)


def test_all_other_lines_are_written_unchanged_where_the_reader_knows_the_time() -> None:
    done = said(capture_output=True)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "ä" * 20000 + "\n", b"y\n")
