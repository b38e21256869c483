"""What a replica prints to a log that takes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.server import CHECKOUT

SAY = """
import sys
from model_container.server.log_stream import forgive_full_disks
forgive_full_disks()
print("ä" * 20000, flush=True)
print("y", file=sys.stderr)
sys.stdout.flush()
"""
FULL = Path("/dev/full")


def said(**streams: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", SAY], cwd=CHECKOUT, check=False, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here; use Linux")
def test_a_log_line_that_does_not_fit_is_dropped_without_an_error() -> None:
    with FULL.open("wb") as full:
        assert said(stdout=full, stderr=full).returncode == 0


def test_all_other_lines_are_written() -> None:
    done = said(capture_output=True)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "ä" * 20000 + "\n", b"y\n")
