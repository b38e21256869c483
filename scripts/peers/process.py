"""Servers as processes that leave nothing behind, even those that make daemons of their parts, as Ray does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MARK = "PRISM_BENCH_RUN"  # in the environment of all that a server starts, so that strays are found again
GRACE_SECONDS = 5


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own. At the end it and every process that came of it are gone."""
    mark = uuid.uuid4().hex
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**environ, MARK: mark}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        stop(process, mark)


def stop(process: subprocess.Popen[bytes], mark: str) -> None:
    """Asks first, so that the server can take down its parts; what is left is killed, by pid."""
    family = _family(process, mark)
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    left = {*family, *_family(process, mark)}
    for member in left:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(left, timeout=GRACE_SECONDS)
    process.wait()


def _family(process: subprocess.Popen[bytes], mark: str) -> set[psutil.Process]:
    """Its descendants, and whatever carries its mark, wherever it hangs by now."""
    family = {candidate for candidate in psutil.process_iter() if _carries(candidate, mark)}
    with suppress(psutil.NoSuchProcess):
        family |= set(psutil.Process(process.pid).children(recursive=True))
    return family


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def wait_until_open(port: int, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    """Raises RuntimeError if the process ends or the time is over before it listens."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise RuntimeError(f"ended with exit code {process.returncode} before it listened")
        if time.monotonic() > deadline:
            raise RuntimeError(f"did not listen within {timeout_seconds:.0f} s")
        time.sleep(0.05)
