"""The process target with real environments, real processes and the real runtime."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import stat
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from app.core.environment import Lock
from app.core.model import Limits
from app.errors import BuildFailed, PrismError, StartFailed, StorageFailed, TooManyOpenFiles
from app.runtime.logs.files import log_path
from app.runtime.process import tree as process_tree
from app.runtime.target import Target
from tests.acceptance.server import wait_for
from tests.faults import failing
from tests.integration.process_lab import (
    HARMLESS,
    PYTHON,
    Lab,
    anyio_backend,
    connected,
    descendants,
    environments,
    make_target,
    running,
    small_lock,
    until,
    write_model,
)

__all__ = ["anyio_backend", "environments"]  # fixtures


@pytest.fixture
async def lab(tmp_path: Path, environments: Path) -> AsyncIterator[Lab]:
    lab = Lab(make_target(tmp_path, environments), tmp_path / "models", small_lock(PYTHON))
    yield lab
    await lab.stop_all()


async def test_the_process_target_fulfils_the_contract_with_local_pythons(tmp_path: Path) -> None:
    target: Target = make_target(tmp_path, tmp_path / "e")
    assert (await target.pythons())[0] == PYTHON


async def test_an_environment_requested_concurrently_is_built_once(tmp_path: Path) -> None:
    lock = Lock(python=PYTHON, text=f"msgspec=={msgspec.__version__}\n")
    lines: list[str] = []
    two_gateways = [make_target(tmp_path, tmp_path / "e") for _ in range(2)]
    await asyncio.gather(*(target.build_environment(lock, lines.append) for target in two_gateways * 3))
    assert len([line for line in lines if line.startswith("Installed ")]) == 1
    assert (tmp_path / "e" / f"{lock.hash}.txt").read_text() == lock.text


async def test_a_partially_built_environment_is_rebuilt(tmp_path: Path) -> None:
    lock = Lock(python=PYTHON, text=f"msgspec=={msgspec.__version__}\n")
    torso = tmp_path / "e" / f"{lock.hash}-2"
    torso.mkdir(parents=True)
    (torso / "torn").write_text("")
    await make_target(tmp_path, tmp_path / "e").build_environment(lock, print)
    assert not (torso / "torn").exists()
    assert list(torso.glob("lib/*/site-packages/msgspec/__init__.py"))


async def test_a_package_that_does_not_exist_fails_the_build_with_its_name(tmp_path: Path) -> None:
    lock = Lock(python=PYTHON, text="msgspec==0.0.0.1\n")
    with pytest.raises(BuildFailed, match="msgspec"):
        await make_target(tmp_path, tmp_path / "e").build_environment(lock, print)


async def test_a_python_this_machine_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"needs Python 2\.4"):
        await make_target(tmp_path, tmp_path / "e").build_environment(Lock(python="2.4", text=""), print)


async def test_a_model_without_its_environment_is_not_started(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", small_lock(PYTHON))
    with pytest.raises(StartFailed, match="environment"):
        await make_target(tmp_path, tmp_path / "e").start(model, tmp_path / "m", Limits())


async def test_a_replica_answers_and_leaves_nothing_after_stop(lab: Lab, tmp_path: Path) -> None:
    replica = await lab.start()
    assert b"predictions" in await connected(replica)
    state = await lab.target.state(replica)
    assert state.running
    assert not state.frozen
    assert state.rss_bytes > 5 << 20
    processes = descendants(replica.pid)
    assert len(processes) == 2  # the supervisor and the runtime
    began = time.monotonic()
    await lab.target.stop(replica, 60)
    assert time.monotonic() - began < 30, "it did not end by itself"
    assert running(processes) == []
    assert list((tmp_path / "s").iterdir()) == []
    assert list((tmp_path / "run" / replica.model_id).iterdir()) == []
    assert not (await lab.target.state(replica)).running
    await lab.target.stop(replica, 10)


async def test_only_its_user_may_read_its_record_its_socket_and_its_folder(lab: Lab, tmp_path: Path) -> None:
    replica = await lab.start()
    await connected(replica)
    record = next((tmp_path / "run" / replica.model_id).glob("*/replica.json"))
    for path in (record, record.parent / "work", Path(replica.address.socket), Path(replica.address.socket).parent):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_a_later_gateway_finds_it_and_can_stop_it(lab: Lab, tmp_path: Path, environments: Path) -> None:
    replica = await lab.start()
    await connected(replica)
    later = make_target(tmp_path, environments)
    assert await later.replicas() == (replica,)
    assert (await later.state(replica)).running
    assert await make_target(tmp_path, environments, home="another").replicas() == ()
    await later.stop(replica, 5)
    assert await later.replicas() == ()
    assert "exit code is not known" in (await later.state(replica)).detail


GATEWAY = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.integration.process_lab import PYTHON, Lab, connected, make_target, small_lock
folder, environments = Path(sys.argv[1]), Path(sys.argv[2])
async def main():
    lab = Lab(make_target(folder, environments), folder / "models", small_lock(PYTHON))
    await connected(await lab.start())
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_replica_outlives_a_killed_gateway(tmp_path: Path, environments: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", GATEWAY, str(tmp_path), str(environments)]
    gateway = await asyncio.create_subprocess_exec(*command, cwd=root)
    assert await gateway.wait() == -signal.SIGKILL
    target = make_target(tmp_path, environments)
    (replica,) = await target.replicas()
    try:
        assert b"predictions" in await connected(replica)
    finally:
        await target.stop(replica, 5)
    assert descendants(replica.pid) == []


async def test_a_frozen_replica_is_seen_as_frozen_and_can_be_stopped(lab: Lab) -> None:
    replica = await lab.start()
    await connected(replica)
    runtime = descendants(replica.pid)[1]
    runtime.suspend()

    async def frozen() -> bool:
        return (await lab.target.state(replica)).frozen

    await until(frozen, "it is reported as frozen")
    await lab.target.stop(replica, 1)
    assert running([runtime]) == []


@pytest.mark.parametrize("victim", [0, 1], ids=["supervisor", "runtime"])
async def test_a_replica_killed_by_a_signal_is_gone_with_the_reason_and_all_its_processes(
    lab: Lab, victim: int
) -> None:
    replica = await lab.start()
    await connected(replica)
    processes = descendants(replica.pid)
    processes[victim].kill()
    assert "killed by signal 9" in await lab.gone(replica)

    async def nothing_left() -> bool:
        return not running(processes)

    await until(nothing_left, "all its processes have ended")


async def test_the_reason_survives_a_restart_of_the_gateway(lab: Lab, tmp_path: Path, environments: Path) -> None:
    replica = await lab.start()
    await connected(replica)
    descendants(replica.pid)[1].kill()
    await lab.gone(replica)
    assert "killed by signal 9" in (await make_target(tmp_path, environments).state(replica)).detail


async def test_a_replica_that_ends_itself_leaves_its_exit_code_and_no_zombie(lab: Lab) -> None:
    replica = await lab.start("import os\nos._exit(7)")
    assert "exited with code 7" in await lab.gone(replica)
    assert not psutil.pid_exists(replica.pid)


async def test_a_replica_that_ends_while_it_is_checked_leaves_its_exit_code(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await lab.start()
    await connected(replica)
    find = process_tree.find

    def find_dead(identifier: str) -> psutil.Process | None:
        psutil.Process(replica.pid).kill()
        wait_for(lambda: find(identifier) is None, 30, "its end")
        return None

    monkeypatch.setattr(process_tree, "find", find_dead)
    state = await lab.target.state(replica)
    monkeypatch.undo()
    assert not state.running
    assert "killed by signal 9" in state.detail
    assert not psutil.pid_exists(replica.pid)


async def test_a_reused_pid_is_not_mistaken_for_the_replica(lab: Lab) -> None:
    replica = await lab.start()
    earlier = msgspec.structs.replace(replica, id=f"{replica.pid}:1")
    assert not (await lab.target.state(earlier)).running


async def test_a_replica_can_be_stopped_while_its_model_loads(lab: Lab) -> None:
    replica = await lab.start("import time\nprint('loading \"yes\"', flush=True)\ntime.sleep(600)")
    await lab.said("loading ")
    began = time.monotonic()
    await lab.target.stop(replica, 60)
    assert time.monotonic() - began < 30


async def test_a_replica_that_ignores_sigterm_is_killed_after_the_grace_period(lab: Lab) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf 1', flush=True)\ntime.sleep(600)"
    replica = await lab.start(code)
    await lab.said("deaf ")
    await lab.target.stop(replica, 0.2)
    assert not (await lab.target.state(replica)).running


async def test_its_log_can_be_followed_until_it_ends(lab: Lab, tmp_path: Path) -> None:
    replica = await lab.start("import threading\nprint('one\\ntwo', flush=True)\n" + HARMLESS)
    await connected(replica)
    folder = tmp_path / "models" / "intruder"
    last = [line async for line in lab.target.logs(replica, folder, 1, False)]
    assert [line.text for line in last] == ["two"]
    assert replica.started_at <= last[0].time
    following = lab.target.logs(replica, folder, 10, True)
    assert [(await anext(following)).text, (await anext(following)).text] == ["one", "two"]
    descendants(replica.pid)[1].kill()
    rest = [line.text async for line in following]
    assert "killed by signal 9" in rest[-1]


async def test_a_log_that_grows_too_large_is_truncated_without_losing_readers_positions(
    lab: Lab, tmp_path: Path
) -> None:
    """It says 20 MB in a rush, and then goes on; one reader follows it, another comes back to where it was."""
    script = """
    import threading, time
    def talk():
        for number in range(300_000):
            print(f"{number:060d}")
        while True:
            number += 1
            print(f"{number:060d}", flush=True)
            time.sleep(0.01)
    threading.Thread(target=talk, daemon=True).start()
    """
    replica = await lab.start(textwrap.dedent(script) + HARMLESS)
    folder = tmp_path / "models" / "intruder"
    path = log_path(folder)
    following = lab.target.logs(replica, folder, 0, True)
    numbers: list[int] = []
    skipped = False
    async for line in following:
        skipped = skipped or line.kind == "gap"
        if len(line.text) == 60 and line.text.isdigit():
            numbers.append(int(line.text))
        if numbers and numbers[-1] > 300_300 and path.stat().st_size < 5 << 20:
            break
    assert b"bytes of this log were dropped here" in path.read_bytes()[:100]
    assert numbers == sorted(set(numbers))
    # What is written between the last two calls of a cut is gone; the runtime writes 8 KiB at once.
    assert skipped or numbers[-1] - numbers[0] + 1 - len(numbers) < 300
    again = lab.target.logs(replica, folder, 0, True, line.id)
    assert int((await anext(again)).text) == numbers[-1] + 1


async def test_a_replica_listens_on_loopback_if_its_socket_path_would_be_too_long(
    tmp_path: Path, environments: Path
) -> None:
    target = make_target(tmp_path, environments, sockets=tmp_path / ("s" * 100))
    lab = Lab(target, tmp_path / "models", small_lock(PYTHON))
    replica = await lab.start()
    try:
        assert replica.address.socket == ""
        assert replica.address.host == "127.0.0.1"
        assert replica.address.port > 0
        assert b"predictions" in await connected(replica)
    finally:
        await lab.stop_all()


async def test_a_socket_folder_open_to_others_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    with pytest.raises(StartFailed, match="accessible to other users"):
        await lab.start()


async def test_two_replicas_of_one_model_live_side_by_side(lab: Lab, tmp_path: Path) -> None:
    first = await lab.start()
    model = write_model(tmp_path / "again", lab.lock)
    second = await lab.target.start(model, tmp_path / "again", Limits(memory_mb=512))
    lab.started.append(second)
    await connected(first)
    await connected(second)
    await lab.target.stop(first, 5)
    assert await lab.target.replicas() == (second,)


async def test_leftovers_of_a_dead_replica_are_removed_at_the_next_start(lab: Lab, tmp_path: Path) -> None:
    first = await lab.start("import os\nos._exit(1)")
    await lab.gone(first)
    again = write_model(tmp_path / "again", lab.lock)
    second = await lab.target.start(again, tmp_path / "again", Limits(memory_mb=512))
    lab.started.append(second)
    await connected(second)
    assert len(list((tmp_path / "run" / first.model_id).iterdir())) == 1
    assert [path.name for path in (tmp_path / "s").iterdir()] == [second.address.socket.rpartition("/")[2]]


async def test_removing_a_model_keeps_an_environment_that_others_use(lab: Lab, tmp_path: Path) -> None:
    lock = Lock(python=PYTHON, text=f"msgspec=={msgspec.__version__}\n")
    target = make_target(tmp_path, tmp_path / "e")
    await target.build_environment(lock, print)
    model = write_model(tmp_path / "m", lock)
    await target.remove(model, environment_in_use=True)
    assert (tmp_path / "e" / f"{lock.hash}-2").is_dir()
    await target.remove(model, environment_in_use=False)
    assert not (tmp_path / "e" / f"{lock.hash}-2").exists()
    await target.remove(model, environment_in_use=False)


async def test_the_copied_runtime_cannot_import_the_gateway(lab: Lab) -> None:
    code = (
        "import json\nfound = []\nfor name in ('app', 'docker', 'fastapi', 'psutil'):\n"
        "    try:\n        __import__(name); found.append(name)\n    except ImportError: pass\n"
        "print('importable', json.dumps(found), flush=True)\n" + HARMLESS
    )
    await lab.start(code)
    assert await lab.said("importable ") == []


# What the disk refuses ------------------------------------------------------------------------------------------------


def child_pids() -> set[int]:
    """Return the pids of all child processes, including those started by earlier tests."""
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
async def test_a_start_on_a_full_disk_fails_without_leaving_a_process_or_folder(
    lab: Lab, tmp_path: Path, number: int
) -> None:
    model = write_model(lab.folder / "m", lab.lock, HARMLESS, "m")
    await lab.target.build_model(model, lab.folder / "m", print)
    refusals: list[PrismError] = []
    before = child_pids()
    for first in range(1, 100):
        with failing(number, tmp_path, first) as faults:
            try:
                lab.started.append(await lab.target.start(model, lab.folder / "m", Limits()))
            except PrismError as error:
                refusals.append(error)
        assert child_pids() - before == {one.pid for one in lab.started}
        places = [path for path in (tmp_path / "run").glob("m-1/*") if not (path / "replica.json").exists()]
        if number == errno.ENOSPC:
            assert places == []
        for place in places:  # while these faults last, nothing can be removed either; a later start would
            shutil.rmtree(place)
        if not faults.failed:
            break
    assert refusals
    assert all(isinstance(one, StorageFailed | TooManyOpenFiles) and one.hint for one in refusals)
    assert await connected(lab.started[0])


async def test_leftovers_of_an_interrupted_start_are_removed_by_a_later_one(lab: Lab, tmp_path: Path) -> None:
    left = tmp_path / "run" / "intruder-1" / "0badcafe"
    (left / "work").mkdir(parents=True)
    os.utime(left, (1, 1))
    await lab.start()
    assert not left.exists()
