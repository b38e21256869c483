"""The real uv: resolving against the machine's index, and against a company's, with its CA, password and proxy."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.environment import Requirements
from app.errors import BuildFailed, EnvironmentFailed
from app.runtime.packages.lock_cache import LockCache
from app.runtime.packages.resolver import resolve
from app.runtime.packages.uv import find_interpreters, run_uv
from tests.integration.package_index_lab import (
    PACKAGE,
    PASSWORD,
    Index,
    connect_proxy,
    forget_configuration,
    private_index,
)

CHECKOUT = Path(__file__).resolve().parent.parent.parent
OWN = "{}.{}".format(*sys.version_info[:2])
TIMEOUT_SECONDS = 120.0

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing: install it")


def ignore(line: str) -> None: ...


def wanted(*packages: str, pythons: tuple[str, ...] = (OWN,)) -> Requirements:
    return Requirements(packages, (), pythons, "chosen by the test")


async def test_every_package_gets_an_exact_version() -> None:
    lock = await resolve(wanted("joblib<1.5"), log=ignore, timeout_seconds=TIMEOUT_SECONDS)
    (package,) = lock.packages
    assert package.startswith("joblib==1.4.")
    assert lock.python == OWN


async def test_a_resolution_is_reused_until_it_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = wanted("joblib<1.4")
    first = await LockCache(tmp_path, 3600).resolve(question, log=ignore, timeout_seconds=TIMEOUT_SECONDS)
    uv_runs = tmp_path / "no-uv"
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(uv_runs))
    assert await LockCache(tmp_path, 3600).resolve(question, log=ignore, timeout_seconds=TIMEOUT_SECONDS) == first
    with pytest.raises(FileNotFoundError):
        await LockCache(tmp_path, 0).resolve(question, log=ignore, timeout_seconds=TIMEOUT_SECONDS)
    monkeypatch.setenv("PIP_INDEX_URL", "http://another.invalid/simple")
    with pytest.raises(FileNotFoundError):
        await LockCache(tmp_path, 3600).resolve(question, log=ignore, timeout_seconds=TIMEOUT_SECONDS)


async def test_a_python_without_wheels_is_skipped_with_the_reason() -> None:
    question = wanted("scikit-learn==1.0.2", pythons=("3.12", "3.10"))
    lock = await resolve(question, log=ignore, timeout_seconds=TIMEOUT_SECONDS, platform="linux")
    assert lock.python == "3.10"
    assert lock.python_evidence == "chosen by the test; not 3.12: scikit-learn==1.0.2 has no usable wheels"


async def test_what_cannot_be_satisfied_is_named_with_the_next_step() -> None:
    question = wanted("joblib==1.4.2", "joblib==1.3.2", pythons=("3.12", "3.11"))
    with pytest.raises(EnvironmentFailed) as failure:
        await resolve(question, log=ignore, timeout_seconds=TIMEOUT_SECONDS)
    assert "Python 3.12 or 3.11" in failure.value.detail
    assert "joblib==1.4.2" in failure.value.detail
    assert "requirements" in failure.value.hint


async def test_an_index_that_never_answers_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    forget_configuration(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple")
    began = time.monotonic()
    try:
        with pytest.raises(EnvironmentFailed, match="did not finish within 1 s"):
            await resolve(wanted("joblib"), log=ignore, timeout_seconds=1)
        assert time.monotonic() - began < 20, "uv itself waits for 30 s"
    finally:
        for writer in connections:
            writer.close()
        server.close()
        await server.wait_closed()


async def test_uv_does_not_see_prisms_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_API_KEYS", "the-key")
    monkeypatch.setenv("CLOUD_PASSWORD", "the-password")
    seen = await run_uv(["run", "--no-project", "env"], log=ignore, timeout_seconds=60, error=BuildFailed)
    assert "PATH=" in seen
    assert "the-key" not in seen
    assert "the-password" not in seen


async def test_the_gateways_own_python_is_the_first_and_every_one_works() -> None:
    found = await find_interpreters()
    assert next(iter(found)) == OWN
    for minor, path in found.items():
        ask = await asyncio.create_subprocess_exec(path, "--version", stdout=asyncio.subprocess.PIPE)
        said, _ = await ask.communicate()
        assert said.decode().startswith(f"Python {minor}.")


def test_a_broken_python_on_the_path_is_passed_over(tmp_path: Path) -> None:
    shim = tmp_path / "python3.14"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    ask = "import asyncio; from app.runtime.packages.uv import find_interpreters; print(*asyncio.run(find_interpreters()).values())"
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run([sys.executable, "-c", ask], cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert str(shim) not in said.stdout.split()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    forget_configuration(monkeypatch, tmp_path / "cache")
    with private_index(tmp_path) as started:
        monkeypatch.setenv("PIP_INDEX_URL", started.url())
        yield started


async def ask_private(index: Index, said: list[str]) -> str:
    """The port makes every question new to the memory of answers."""
    question = wanted(f"{PACKAGE}>=0.{index.port}")
    return (await resolve(question, log=said.append, timeout_seconds=30)).text.strip()


@needs_openssl
async def test_a_private_index_behind_a_private_ca_is_used(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CERT", str(index.ca))
    said: list[str] = []
    assert await ask_private(index, said) == f"{PACKAGE}==1.0"
    install = ["pip", "install", "--no-deps", "--target", str(tmp_path / "there"), PACKAGE]
    await run_uv(install, log=said.append, timeout_seconds=30, error=BuildFailed)
    assert (tmp_path / "there" / "prism_tiny_private.py").read_text() == "ANSWER = 42\n"
    assert PASSWORD not in "".join(said)


@needs_openssl
async def test_without_its_ca_the_error_says_what_to_set(index: Index) -> None:
    said: list[str] = []
    with pytest.raises(EnvironmentFailed) as failure:
        await ask_private(index, said)
    assert "PIP_CERT" in failure.value.hint
    assert PASSWORD not in f"{said}{failure.value}"


@needs_openssl
async def test_a_wrong_password_is_reported_without_showing_it(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CERT", str(index.ca))
    monkeypatch.setenv("PIP_INDEX_URL", index.url("not-the-password"))
    said: list[str] = []
    with pytest.raises(EnvironmentFailed) as failure:
        await ask_private(index, said)
    assert "credentials" in failure.value.hint
    assert "not-the-password" not in f"{said}{failure.value}"


@needs_openssl
@pytest.mark.parametrize("by", ["environment", "pip.conf"])
async def test_the_index_is_reached_through_the_proxy(
    index: Index, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect_proxy() as proxy:
        if by == "environment":
            monkeypatch.setenv("PIP_CERT", str(index.ca))
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        else:
            monkeypatch.delenv("PIP_INDEX_URL")
            named = tmp_path / "pip.conf"
            named.write_text(
                f"[global]\nindex-url = {index.url()}\nproxy = {proxy.url}\n[install]\ncert = {index.ca}\n"
            )
            monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
        assert await ask_private(index, []) == f"{PACKAGE}==1.0"
        assert set(proxy.asked_for) == {f"127.0.0.1:{index.port}"}
