"""The control group of background work: it gives way to everything, but does not starve on a machine that is busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.child_environment import child_environment
from app.runtime.process.background_group import BackgroundGroup
from app.runtime.process.cgroup_places import find_place
from tests.fakes import eventually

pytestmark = pytest.mark.cgroup

SPIN = "while True: pass"
PATIENCE_NS = 500_000_000
NAME = f"prism-test-background-{os.getpid()}"


@pytest.fixture
def group() -> Iterator[BackgroundGroup]:
    group = BackgroundGroup(NAME)
    yield group
    group.remove()


def idle() -> str:
    return (find_place().folders["cpu"] / NAME / "cpu.idle").read_text().strip()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, env=child_environment())
    os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
    return process


async def test_a_starved_reader_competes_until_the_next_command(group: BackgroundGroup) -> None:
    beside = start([sys.executable, "-c", SPIN])
    member = start(group.command([sys.executable, "-c", SPIN]))
    try:
        await eventually(lambda: NAME in Path(f"/proc/{member.pid}/cgroup").read_text(), 60)
        assert idle() == "1"

        def competes() -> bool:
            group.relieve()
            return idle() == "0"

        await eventually(competes, 60)
        group.command(["true"])
        assert idle() == "1"
    finally:
        for process in (beside, member):
            process.kill()
            process.wait()


async def test_a_reader_that_gets_enough_cpu_keeps_yielding(group: BackgroundGroup) -> None:
    def gives_way() -> bool:
        """Where other programs leave it next to nothing, it may compete: that start says nothing."""
        member = subprocess.Popen(group.command(["sleep", "60"]), env=child_environment())
        try:
            group.relieve()
            gave_way = idle() == "1"
            waited_ns = int(Path(f"/proc/{member.pid}/schedstat").read_text().split()[1])
        finally:
            member.kill()
            member.wait()
        assert gave_way or waited_ns > PATIENCE_NS
        return gave_way

    await eventually(gives_way, 60)
