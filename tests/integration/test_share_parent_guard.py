"""Programs on a leash: real processes, killed in every way they can be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.runtime.process import tree as process_tree
from app.share.child import Child, guarded
from app.share.record import ShareRecord
from app.share.tunnel import State, Status, Worker
from tests.acceptance.server import CHECKOUT, wait_for
from tests.integration.sshd import END_SECONDS, alive

# A program with a child of its own, that says who they are.
FAMILY = "import subprocess, os; other = subprocess.Popen(['sleep', '1000']); print(os.getpid(), other.pid, flush=True); other.wait()"
UP = Status(State.ON, "fake", url="http://far:1", models=("iris",))
Parent = Callable[[], "subprocess.Popen[str]"]


def pids_of(line: str) -> list[int]:
    return [int(word) for word in line.split()]


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


@pytest.fixture
def parent() -> Iterator[Parent]:
    """A process that starts FAMILY on a leash, as a server would, and then waits."""
    script = f"""
import asyncio
from app.runtime.process import tree as process_tree
from app.share.child import Child, guarded
import os, sys

async def main():
    child = await Child.start(guarded([sys.executable, "-c", {FAMILY!r}], os.getpid()), process_tree, dict(os.environ))
    async for line in child.lines():
        print(child.worker.id.split(":")[0], line, flush=True)

asyncio.run(main())
"""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the pipe alone ties the processes together")
@pytest.mark.parametrize("which", ["the server", "the leash"])
def test_killing_one_process_ends_the_rest(parent: Parent, which: str) -> None:
    process = parent()
    assert process.stdout is not None
    leash, program, other = pids_of(process.stdout.readline())
    os.kill(process.pid if which == "the server" else leash, signal.SIGKILL)
    wait_for(lambda: gone([leash, program]), END_SECONDS, "the end of leash and program")
    if which == "the server":
        wait_for(lambda: gone([other]), END_SECONDS, "the end of what the program started")
    else:
        os.kill(other, signal.SIGKILL)  # a server would: it kills the group of a leash that ended


def test_closing_the_pipe_ends_the_whole_group() -> None:
    """What is left where the kernel does not tell of a parent's death: the parent lives, and closes the pipe."""
    command = guarded([sys.executable, "-c", FAMILY], os.getpid())
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leash:
        assert leash.stdin is not None
        assert leash.stdout is not None
        pids = pids_of(leash.stdout.readline())
        assert not gone(pids)
        leash.stdin.close()
        wait_for(lambda: gone([leash.pid, *pids]), END_SECONDS, "the end of the group")


def test_a_guard_whose_parent_is_gone_starts_nothing(tmp_path: Path) -> None:
    command = guarded(["touch", str(tmp_path / "started")], os.getpid() + 1)
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=10).returncode == 1
    assert not (tmp_path / "started").exists()


def test_the_group_ends_with_its_program() -> None:
    """What it leaves would hold the pipe open on which its end is waited for."""
    command = guarded(["sh", "-c", "sleep 1000 & echo $! $$"], os.getpid())
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leash:
        assert leash.stdout is not None
        pids = pids_of(leash.stdout.readline())
        assert leash.stdout.read() == ""
        wait_for(lambda: gone([leash.pid, *pids]), END_SECONDS, "the end of the group")


async def start_family() -> tuple[Child, list[int]]:
    command = guarded([sys.executable, "-c", FAMILY], os.getpid())
    child = await Child.start(command, process_tree)
    async for line in child.lines():
        return child, [int(child.worker.id.split(":")[0]), *pids_of(line)]
    raise AssertionError("no output")


async def test_a_killed_child_leaves_no_process_of_its_group() -> None:
    child, pids = await start_family()
    await child.kill()
    wait_for(lambda: gone(pids), END_SECONDS, "the end of the group")


async def test_a_tunnel_of_an_earlier_server_is_ended_and_forgotten(tmp_path: Path) -> None:
    child, pids = await start_family()
    earlier = ShareRecord(tmp_path / "share.json", process_tree)
    await earlier.write(UP, child.worker)

    await ShareRecord(tmp_path / "share.json", process_tree).end_stale()

    wait_for(lambda: gone(pids), END_SECONDS, "the end of the group")
    assert not (tmp_path / "share.json").exists()
    await child.kill()


@pytest.mark.parametrize("other", ["start time", "command line"])
async def test_another_process_with_its_pid_is_left_alone(tmp_path: Path, other: str) -> None:
    child, pids = await start_family()
    worker = child.worker
    if other == "start time":
        worker = Worker(f"{worker.id.split(':')[0]}:1", worker.command)
    else:
        worker = Worker(worker.id, (*worker.command, "--other"))
    record = ShareRecord(tmp_path / "share.json", process_tree)
    await record.write(UP, worker)
    await record.end_stale()
    assert not gone(pids)
    assert not (tmp_path / "share.json").exists()
    await child.kill()


@pytest.mark.parametrize("content", ["", "{", json.dumps({"status": 1}), "null"])
async def test_a_record_that_cannot_be_read_is_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / "share.json").write_text(content)
    await ShareRecord(tmp_path / "share.json", process_tree).end_stale()
    assert not (tmp_path / "share.json").exists()


async def test_a_very_long_line_does_not_stop_the_reading() -> None:
    program = "import sys; sys.stdout.write('x' * 300_000 + '\\n'); print('after')"
    command = guarded([sys.executable, "-c", program], os.getpid())
    child = await Child.start(command, process_tree)
    lines = [line async for line in child.lines()]
    assert lines[-1] == "after"
    await child.kill()
    assert psutil.pid_exists(os.getpid())


async def test_a_writer_that_is_cancelled_does_not_bring_the_record_back(tmp_path: Path) -> None:
    record = ShareRecord(tmp_path / "share.json", process_tree)
    writing = asyncio.create_task(record.write(UP, None))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    await record.clear()
    assert not (tmp_path / "share.json").exists()
