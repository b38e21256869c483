"""A model's packages behind the walls: found by the model and by all that it starts, and installed anew if need be."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from app.core.environment import Lock
from app.core.model import Limits
from app.runtime.process.target import ProcessTarget
from model_container.contract.config import VARIABLE, RuntimeConfig
from tests.integration.process_lab import HOME, Lab, connected, small_lock, write_model

PYTHON = "{}.{}".format(*sys.version_info[:2])
PROGRAM = Path(__file__).parents[2] / "model_container" / "__main__.py"

STARTS_OTHERS = """
import json, multiprocessing, os, subprocess, sys

def version(package, square):
    import importlib
    return [os.getpid(), importlib.import_module(package).__version__, square * square]

def by_joblib():
    import joblib
    return joblib.Parallel(n_jobs=2)(joblib.delayed(version)("numpy", i) for i in range(4))

def by_spawn():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.starmap(version, [("numpy", i) for i in range(4)])

def by_command():
    code = "import os, numpy; print(os.getpid(), numpy.__version__)"
    pid, found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return [[int(pid), found, 0]]

class Model:
    def predict(self, rows):
        said = {}
        for way in (by_joblib, by_spawn, by_command):
            answers = way()
            assert os.getpid() not in [pid for pid, _, _ in answers]
            said[way.__name__] = [sorted({v for _, v, _ in answers}), sorted(s for _, _, s in answers)]
        print("said", json.dumps(said), flush=True)
        return [1.0 for _ in rows]
"""
SEES = """
import builtins, json, sys
print("seen", json.dumps({
    "executable": sys.executable, "prefix": sys.prefix, "path": sys.path, "flags": [sys.flags.no_site, sys.flags.isolated],
    "builtins": [hasattr(builtins, name) for name in ("exit", "quit")],
}), flush=True)
class Model:
    def predict(self, rows):
        return [1.0 for _ in rows]
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def lab_for(folder: Path, lock: Lock) -> Lab:
    return Lab(ProcessTarget(folder / "e", folder / "run", folder / "s", 300, HOME), folder / "models", lock)


async def test_programs_that_a_model_starts_find_its_packages(tmp_path: Path) -> None:
    libraries = "".join(f"{name}=={version(name)}\n" for name in ("joblib", "cloudpickle"))
    lab = lab_for(tmp_path, Lock(python=PYTHON, text=small_lock(PYTHON).text + libraries))
    await lab.target.build_environment(lab.lock, print)
    replica = await lab.start(STARTS_OTHERS, Limits(memory_mb=1024, pids=128))
    try:
        answer = await connected(replica)
        assert b"predictions" in answer, (answer, lab.log())
        said = await lab.said("said ")
    finally:
        await lab.stop_all()

    assert "Traceback" not in lab.log(), "also what joblib starts to clear up after it"
    squares = [[version("numpy")], [0, 1, 4, 9]]
    assert said == {"by_joblib": squares, "by_spawn": squares, "by_command": [[version("numpy")], [0]]}


async def test_no_package_provides_the_interpreter(tmp_path: Path) -> None:
    lab = lab_for(tmp_path, small_lock(PYTHON))
    await lab.target.build_environment(lab.lock, print)
    replica = await lab.start(SEES)
    try:
        await connected(replica)
        seen = await lab.said("seen ")
    finally:
        await lab.stop_all()

    environment = tmp_path / "e" / f"{lab.lock.hash}-2"
    assert not Path(seen["executable"]).is_relative_to(tmp_path)
    assert seen["prefix"] == str(environment)
    assert seen["path"].index(str(environment / "lib" / f"python{PYTHON}" / "site-packages")) > 2, "behind the library"
    assert seen["builtins"] == [True, True]


async def test_an_environment_with_an_older_layout_is_reinstalled(tmp_path: Path) -> None:
    lab = lab_for(tmp_path, small_lock(PYTHON))
    older = tmp_path / "e" / lab.lock.hash
    (older / "bin").mkdir(parents=True)
    (older / "bin" / "python").symlink_to(sys.executable)
    (older / ".complete").write_text(f"{lab.lock.hash}\n")

    await lab.target.build_environment(lab.lock, print)
    replica = await lab.start()
    try:
        assert b"predictions" in await connected(replica)
    finally:
        await lab.stop_all()
    assert older.is_dir(), "a replica of an earlier PRISM may still run in it"
    await lab.target.remove(write_model(tmp_path / "removed", lab.lock), environment_in_use=False)
    assert {path.name for path in (tmp_path / "e").iterdir()} == {f".{lab.lock.hash}.lock", "bytecode"}
    (runtime,) = (tmp_path / "e" / "bytecode").iterdir()
    assert list(runtime.rglob("runtime.*.pyc")), "the replicas' own; that of the packages went with them"


def test_a_runtime_started_with_site_exits(tmp_path: Path) -> None:
    config = RuntimeConfig(str(tmp_path / "m.pkl"), "pickle", socket=str(tmp_path / "s"), environment=str(tmp_path))

    done = subprocess.run(
        [sys.executable, "-I", "-B", str(PROGRAM)],
        env={VARIABLE: config.to_json()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "started without -S" in done.stderr
