"""What a replica on the process target may use, by a control group and where there is none; and who tells its end."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.model import Limits
from app.errors import StartFailed
from app.runtime.doctor import survey_group
from app.runtime.process import cgroups
from app.runtime.process.cgroup_places import NoCgroup, find_place
from app.runtime.process.replica_end import read_end
from app.runtime.process.sandbox_check import probe_sandbox
from app.runtime.process.target import Record
from tests.integration.process_lab import (
    HARMLESS,
    HOME,
    PYTHON,
    Lab,
    anyio_backend,
    connected,
    descendants,
    environments,
    make_target,
    small_lock,
    until,
    write_model,
)

__all__ = ["anyio_backend", "environments"]  # fixtures shared with the target's own tests

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux; use a Linux machine")
SMALL = Limits(memory_mb=256, pids=64)


@pytest.fixture(params=[pytest.param("cgroup", marks=pytest.mark.cgroup), "none"])
def holder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What bounds the replica: the kernel, or, as where a user is given no control group, the supervisor."""

    def none() -> None:
        raise NoCgroup("this test wants none")

    if request.param == "none":
        monkeypatch.setattr(cgroups, "find_place", none)
    return str(request.param)


@pytest.fixture
async def lab(tmp_path: Path, environments: Path) -> AsyncIterator[Lab]:
    lab = Lab(make_target(tmp_path, environments), tmp_path / "models", small_lock(PYTHON))
    yield lab
    await lab.stop_all()


@pytest.fixture
async def bounded(holder: str, lab: Lab) -> Lab:
    return lab


def groups() -> list[Path]:
    """Return the control groups of replicas in the lab's home."""
    return [path for folder in set(find_place().folders.values()) for path in folder.glob(f"prism-{HOME}-*")]


@pytest.mark.cgroup
def test_no_kind_of_memory_goes_beyond_the_limit_of_a_control_group() -> None:
    with survey_group() as (group, why_not):
        assert not why_not
        found = probe_sandbox(group=group)
    assert found["memory"], found["details"]
    assert found["details"]["report"]["bounds"]["memory"].startswith("cgroup v")


SHARED = {
    "memfd": "for _ in range(4): write(os.memfd_create('x'), 100)",
    "mapping": "touch(mmap.mmap(-1, 400 << 20))",
    "forgotten": "for _ in range(4): m = mmap.mmap(-1, 100 << 20); touch(m); m.madvise(mmap.MADV_DONTNEED); kept.append(m)",
    "files": "write(os.open('/dev/shm/x', os.O_CREAT | os.O_RDWR), 60); write(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 60);"
    " kept.append(bytearray(b'x') * (200 << 20))",
}


@pytest.mark.parametrize("kind", list(SHARED))
async def test_shared_memory_counts(bounded: Lab, kind: str) -> None:
    """Today's limit of private memory lets all of these pass."""
    code = f"""
        import mmap, os, time
        kept = []
        def write(file, mb):
            for _ in range(mb):
                os.write(file, b"x" * (1 << 20))
        def touch(memory):
            for place in range(0, len(memory), mmap.PAGESIZE):
                memory[place] = 1
        try:
            {SHARED[kind]}
        except OSError as error:
            raise SystemExit(f"refused: {{error}}")
        time.sleep(3)
        print("all of it", flush=True)
        time.sleep(600)
    """
    replica = await bounded.start(textwrap.dedent(code), SMALL)
    detail = await bounded.gone(replica)
    state = await bounded.target.state(replica)
    assert (state.out_of_memory and "256 MiB" in detail) or "refused: " in bounded.log()
    assert "all of it" not in bounded.log()


async def test_a_replica_that_fills_memory_through_forks_is_ended(bounded: Lab) -> None:
    code = """
        import os, time
        for _ in range(20):
            if os.fork() == 0:
                held = bytearray(b"x") * (60 << 20)
                time.sleep(600)
        time.sleep(600)
    """
    replica = await bounded.start(textwrap.dedent(code), SMALL)
    assert "out of memory, limit 256 MiB" in await bounded.gone(replica)
    assert (await bounded.target.state(replica)).out_of_memory


@pytest.mark.cgroup
async def test_a_control_group_limits_processes_and_cpu_and_is_removed_with_its_replica(lab: Lab) -> None:
    code = """
        import os, time
        made = 0
        try:
            while made < 100:
                if os.fork() == 0:
                    time.sleep(600)
                made += 1
        except OSError:
            pass
        print("found", made, flush=True)
    """
    replica = await lab.start(textwrap.dedent(code) + HARMLESS, Limits(memory_mb=256, pids=20, cpus=0.5))
    assert 10 < await lab.said("found ") < 20
    files = {
        file.name: file.read_text().split() for folder in groups() for file in folder.glob("*.*") if is_bound(file)
    }
    assert files.get("memory.limit_in_bytes", files.get("memory.max")) == [str(256 << 20)]
    assert files["pids.max"] == ["20"]
    assert files.get("cpu.cfs_quota_us", files.get("cpu.max", [""])[:1]) == ["50000"]
    await lab.target.stop(replica, 0)
    assert groups() == []


def is_bound(file: Path) -> bool:
    return file.name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")


@pytest.mark.cgroup
async def test_all_processes_but_the_supervisor_are_in_the_group(lab: Lab) -> None:
    replica = await lab.start()
    await connected(replica)
    supervisor, *others = (process.pid for process in descendants(replica.pid))
    for folder in groups():
        assert {int(pid) for pid in (folder / "cgroup.procs").read_text().split()} == set(others)
    assert supervisor not in others


@pytest.mark.cgroup
async def test_a_later_gateway_leaves_the_groups_of_the_living_and_removes_those_of_the_dead(
    lab: Lab, tmp_path: Path, environments: Path
) -> None:
    replica = await lab.start()
    await connected(replica)
    living = groups()
    orphans = [folder / f"prism-{HOME}-orphan" for folder in set(find_place().folders.values())]
    for orphan in orphans:
        orphan.mkdir()
    later = Lab(make_target(tmp_path, environments), tmp_path / "later", lab.lock)
    second = await later.start(name="second")
    assert set(living) < set(groups())
    assert not any(orphan.exists() for orphan in orphans)
    await later.target.stop(replica, 0)
    assert not any(folder.exists() for folder in living)
    await later.target.stop(second, 0)
    assert groups() == []


@pytest.mark.cgroup
async def test_the_group_of_a_replica_that_died_goes_with_the_next_start(lab: Lab, tmp_path: Path) -> None:
    first = await lab.start()
    await connected(first)
    (old,) = {folder.name for folder in groups()}
    os.kill(first.pid, signal.SIGKILL)
    await lab.gone(first)
    second = await lab.target.start(write_model(tmp_path / "again", lab.lock), tmp_path / "again", SMALL)
    lab.started.append(second)
    (new,) = {folder.name for folder in groups()}
    assert new != old


async def test_a_log_line_does_not_decide_why_a_replica_ended(lab: Lab) -> None:
    """The supervisor's number is public: the line that it writes, anybody can write."""
    replica = await lab.start("import time\ntime.sleep(600)")
    path = lab.folder / "intruder" / "logs" / "runtime.log"
    with path.open("a") as log:
        log.write(f"supervisor {replica.pid}: the replica ended: FORGED\n")
    os.kill(replica.pid, signal.SIGKILL)
    assert "FORGED" not in await lab.gone(replica)


async def test_a_model_cannot_reach_the_file_that_records_its_end(lab: Lab) -> None:
    code = """
        import json, os
        found = {"own": [], "supervisor": "", "written": []}
        for name in os.listdir("/proc/self/fd"):
            try:
                found["own"].append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                pass
        try:
            found["supervisor"] = os.listdir(f"/proc/{os.getppid()}/fd")
        except OSError as error:
            pass
        print("found", json.dumps(found), flush=True)
        os._exit(7)
    """
    replica = await lab.start(textwrap.dedent(code))
    found = await lab.said("found ")
    assert not [path for path in found["own"] if "end.json" in path or "cgroup" in path]
    assert not found["supervisor"]
    assert await lab.gone(replica) == "exited with code 7"


async def test_a_later_gateway_gets_the_cause_of_the_end_with_the_usage(
    lab: Lab, tmp_path: Path, environments: Path
) -> None:
    replica = await lab.start("held = bytearray(b'x') * (50 << 20)\nimport os, time\ntime.sleep(1)\nos._exit(7)")
    later = Lab(make_target(tmp_path, environments), tmp_path / "later", lab.lock)
    assert await later.gone(replica) == "exited with code 7"
    (place,) = (tmp_path / "run" / replica.model_id).iterdir()
    end = read_end(place)
    assert end
    assert (end.exit_code, end.signal, end.out_of_memory) == (7, None, False)
    assert end.peak_memory_bytes > 50 << 20


async def test_a_replica_whose_record_could_not_be_written_ends_before_anything_of_its_model_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulates a gateway killed in between: no later gateway could find the replica."""
    pids: list[int] = []

    def full(path: Path, record: Record) -> None:
        pids.append(record.replica.pid)
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr("app.runtime.process.target._write_record", full)
    with pytest.raises(StartFailed):
        await lab.start("print('loaded', flush=True)" + HARMLESS)

    async def is_gone() -> bool:
        return not descendants(pids[0])

    await until(is_gone, "it has ended")
    assert "loaded" not in lab.log()
