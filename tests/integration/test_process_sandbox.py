"""Escapes tried from behind the walls: by the survey of `prism doctor`, and by models of a real replica."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.core.model import Limits
from app.runtime.process.sandbox_check import FULL, probe_sandbox
from model_container.contract.config import Confinement
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
)

__all__ = ["anyio_backend", "environments"]  # fixtures shared with the target's own tests

ROOT = Path(__file__).parents[2]
AREAS = ("network", "files", "processes", "syscalls")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux; use a Linux machine")


@pytest.fixture
async def lab(tmp_path: Path, environments: Path) -> AsyncIterator[Lab]:
    lab = Lab(make_target(tmp_path, environments), tmp_path / "models", small_lock(PYTHON))
    yield lab
    await lab.stop_all()


def test_in_the_full_sandbox_every_escape_attempt_is_refused() -> None:
    found = probe_sandbox()
    assert {area: found[area] for area in AREAS} == dict.fromkeys(AREAS, True), found["details"]


def test_no_kind_of_memory_goes_beyond_the_limit_without_a_control_group() -> None:
    found = probe_sandbox()
    assert found["memory"], found["details"]
    assert found["details"]["report"]["bounds"]["memory"] == "seccomp and supervisor"


def test_without_a_sandbox_every_escape_attempt_succeeds() -> None:
    found = probe_sandbox(None)
    assert not any(found[area] for area in (*AREAS, "memory"))
    assert found["details"]["refused"] == {area: {} for area in (*AREAS, "memory")}


def test_an_unprivileged_user_gets_the_same_sandbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without root the suite itself runs as such a user."""
    if os.geteuid() != 0:
        return
    python = next(iter(readable_pythons()), None)
    if python is None:
        pytest.skip("no Python that other users may run; install python3 with the system's package manager")
    place = Path("/tmp") / f"prism-walls-test-{os.getpid()}"
    try:
        for package in ("app", "model_container"):
            shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
        place.chmod(0o755)
        code = "import json; from app.runtime.process.sandbox_check import probe_sandbox; print(json.dumps(probe_sandbox()))"
        done = subprocess.run(
            [python, "-c", code], cwd=place, user=65534, group=65534, extra_groups=[], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert {area: found[area] for area in AREAS} == dict.fromkeys(AREAS, True), found["details"]
    finally:
        shutil.rmtree(place)


def readable_pythons() -> list[str]:
    candidates = [sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"]
    return [one for one in candidates if os.path.exists(one) and runs_as_nobody(one)]


def runs_as_nobody(python: str) -> bool:
    try:
        done = subprocess.run([python, "-c", "import ctypes"], cwd="/", user=65534, group=65534, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.parametrize(
    ("confinement", "refused"),
    [
        pytest.param(Confinement(), {"network", "syscalls"}, id="seccomp"),
        pytest.param(Confinement(readable=[], seccomp=False), {"files"}, id="landlock"),
        pytest.param(
            Confinement(namespaces=True, readable=[], seccomp=False), {"network", "files", "processes"}, id="namespaces"
        ),
    ],
)
def test_each_sandbox_layer_alone_blocks_what_it_claims(confinement: Confinement, refused: set[str]) -> None:
    found = probe_sandbox(confinement)
    assert refused <= {area for area in AREAS if found[area]}, found["details"]


def test_without_namespaces_the_other_layers_apply_and_the_report_says_so() -> None:
    found = probe_sandbox(Confinement(readable=FULL.readable, memory_mb=FULL.memory_mb))
    assert {area: found[area] for area in AREAS} == dict.fromkeys(AREAS, True), found["details"]
    report = found["details"]["report"]
    assert report["namespaces"] == []
    assert report["seccomp"] is True


async def findings(lab: Lab, code: str, limits: Limits | None = None) -> Any:
    """What `code`, run in a replica while its model is loaded, puts into `found`."""
    source = f"{textwrap.dedent(code)}\nimport json\nprint('found', json.dumps(found), flush=True)\n{HARMLESS}"
    await lab.start(source, limits)
    return await lab.said("found ")


async def test_a_model_finds_no_secret_of_the_gateway(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_API_KEYS", "sesame-sesame")
    # A process of the gateway's user that was started with the key, as the gateway is.
    holder = await asyncio.create_subprocess_exec("sleep", "600")
    code = """
        import glob, os
        texts = [repr(dict(os.environ))]
        for path in glob.glob("/proc/[0-9]*/environ") + [f"/proc/{os.getppid()}/environ", "/proc/self/environ"]:
            try:
                texts.append(open(path, "rb").read().decode(errors="replace"))
            except OSError:
                pass
        found = {"secret": "sesame" in "".join(texts), "names": sorted(os.environ)}
    """
    try:
        found = await findings(lab, code)
    finally:
        holder.kill()
        await holder.wait()
    assert not found["secret"]
    assert not [name for name in found["names"] if name.startswith(("PRISM", "MODEL_"))]
    assert not [name for name in found["names"] if name.lower().endswith("_proxy")]


async def test_a_model_reads_neither_another_model_nor_the_records_nor_the_files_of_its_user(
    lab: Lab, tmp_path: Path
) -> None:
    other = await lab.start(name="other")
    await connected(other)
    record = next((tmp_path / "run" / other.model_id).glob("*/replica.json"))
    notes = tmp_path / "notes.txt"
    notes.write_text("not for models")
    wanted = [
        str(lab.folder / "other" / "artifact" / "model.pkl"),
        str(lab.folder / "other" / "logs" / "runtime.log"),
        str(record),
        str(notes),
        str(ROOT / "pyproject.toml"),
        "/etc/shadow",
        "/etc/hostname",
        "/root",
        "/home",
    ]
    code = f"""
        import os
        found = []
        for path in {wanted!r}:
            try:
                found.append([path, len(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1))])
            except OSError:
                pass
    """
    assert await findings(lab, code) == []


async def test_a_model_writes_to_its_own_folder_and_to_nothing_it_can_read(lab: Lab, tmp_path: Path) -> None:
    artifact = lab.folder / "intruder" / "artifact" / "model.pkl"
    temporary = Path("/tmp") / f"prism-test-{uuid4()}"
    code = f"""
        import os, sys, model_container
        found = {{}}
        for name, path in {{
            "own": os.path.join(os.environ["HOME"], "x"),
            "temporary": {str(temporary)!r},
            "artifact": {str(artifact)!r},
            "beside": {str(artifact.parent / "x")!r},
            "code": os.path.join(os.path.dirname(os.path.abspath(__file__)), "x.py"),
            "environment": os.path.join(sys.prefix, "x"),
            "runtime": os.path.join(os.path.dirname(model_container.__file__), "x.py"),
            "system": "/usr/lib/x",
        }}.items():
            try:
                open(path, "ab").write(b"x")
                found[name] = True
            except OSError:
                found[name] = False
    """
    written = {name for name, done in (await findings(lab, code)).items() if done}
    assert {"own"} <= written <= {"own", "temporary"}
    assert not temporary.exists()


async def test_a_model_cannot_reach_another_model_through_its_socket(lab: Lab) -> None:
    other = await lab.start(name="other")
    await connected(other)
    code = f"""
        import socket
        found = "reached"
        try:
            socket.socket(socket.AF_UNIX).connect({other.address.socket!r})
        except OSError as error:
            found = "refused"
    """
    assert await findings(lab, code) == "refused"


async def test_a_name_cannot_be_looked_up(lab: Lab) -> None:
    code = """
        import socket
        found = "refused"
        try:
            found = socket.getaddrinfo("localhost", 80)[0][4][0]
        except OSError:
            pass
    """
    assert await findings(lab, code) == "refused"


async def test_a_fork_bomb_is_limited_and_ends_with_stop(lab: Lab) -> None:
    code = """
        import os, time
        made = 0
        try:
            while made < 2000:
                if os.fork() == 0:
                    time.sleep(600)
                    os._exit(0)
                made += 1
        except OSError:
            pass
        found = made
    """
    limits = Limits(memory_mb=512, pids=64)
    replica = await lab.start(
        f"{textwrap.dedent(code)}\nimport json\nprint('found', json.dumps(found), flush=True)\n{HARMLESS}", limits
    )
    most = 0

    async def over() -> bool:
        nonlocal most
        has_gone_off = "found " in lab.log() or not (await lab.target.state(replica)).running
        most = max(most, len(descendants(replica.pid)))  # afterwards, so that none that it made is missed
        return has_gone_off

    await until(over, "the bomb has gone off")
    # The kernel takes no limit of a pid namespace below 301; root is bound by that alone.
    assert 2 < most <= 320
    processes = descendants(replica.pid)
    await lab.target.stop(replica, 0)
    assert running(processes) == []


async def test_memory_beyond_the_limit_is_refused_and_the_replica_lives_on(lab: Lab) -> None:
    code = """
        found = "granted"
        try:
            bomb = bytearray(1 << 30)
        except MemoryError:
            found = "refused"
    """
    assert await findings(lab, code, Limits(memory_mb=512, pids=64)) == "refused"
    assert (await lab.target.state(lab.started[0])).running


async def test_memory_beyond_the_limit_over_several_processes_ends_the_replica_with_the_reason(lab: Lab) -> None:
    code = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                bomb = bytearray(b"x") * (100 << 20)
                time.sleep(600)
        time.sleep(600)
    """
    replica = await lab.start(textwrap.dedent(code), Limits(memory_mb=256, pids=64))
    detail = await lab.gone(replica)
    assert "out of memory" in detail
    assert "256 MiB" in detail


async def test_a_daemon_left_behind_dies_with_stop(lab: Lab) -> None:
    code = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.wait()
        found = True
    """
    assert await findings(lab, code)
    replica = lab.started[0]
    await connected(replica)
    processes = descendants(replica.pid)
    assert len(processes) == 3
    await lab.target.stop(replica, 5)
    assert running(processes) == []


async def test_a_log_that_grows_too_large_keeps_its_end(lab: Lab) -> None:
    code = """
        import sys
        for _ in range(12):
            print("x" * (1 << 20), flush=True)
        print("the end", flush=True)
    """
    replica = await lab.start(textwrap.dedent(code) + HARMLESS)
    await connected(replica)
    path = lab.folder / "intruder" / "logs" / "runtime.log"

    async def small() -> bool:
        return path.stat().st_size < 2 << 20 and "the end" in lab.log()

    await until(small, "the log has been cut")
