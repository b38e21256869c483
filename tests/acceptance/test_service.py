"""`prism service` with a real systemd: installed, found, restarted after a crash with its models alive, and removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.server import CHECKOUT, free_port, wait_for
from tests.acceptance.systemd_lab import OwnSystemd, own_systemd
from tests.integration.sshd import alive

Prism = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.systemd


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[OwnSystemd]:
    with own_systemd(tmp_path) as running:
        yield running


@pytest.fixture
def prism(tmp_path: Path, systemd: OwnSystemd) -> Iterator[Prism]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "MODEL_"))}
    environ = {**inherited, **systemd.environ, "PRISM_HOME": str(tmp_path / "my home")}

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = systemd.inside(sys.executable, "-m", "prism.cli", *arguments)
        return subprocess.run(
            command, cwd=CHECKOUT, env={**environ, **settings}, capture_output=True, text=True, timeout=300
        )

    yield run
    run("service", "uninstall", "--user")
    run("stop")


def test_the_server_as_a_service(
    prism: Prism, systemd: OwnSystemd, tmp_path: Path, environments: Path, iris_file: Path
) -> None:
    missing = prism("service", "status", "--user")
    assert missing.returncode == 3
    assert "No service is installed" in missing.stdout
    port = free_port()
    (tmp_path / "my home").mkdir()
    (tmp_path / "my home" / "config.yaml").write_text(
        f"serving:\n  port: {port}\n  target: process\n  environment_root: {environments}\n  accelerate: off\n"
    )

    assert prism("run").returncode == 0
    assert prism("push", str(iris_file), "--name", "iris").returncode == 0
    replica = json.loads(prism("models", "show", "iris", "--json").stdout)["replica"]["pid"]
    refused = prism("service", "install", "--user")
    assert refused.returncode == 1
    assert "not as this service" in refused.stderr
    assert prism("stop", "--keep-models").returncode == 0

    installed = prism("service", "install", "--user", PRISM_LOG_LEVEL="error")
    assert installed.returncode == 0, installed.stderr + systemd.log.read_text()[-3000:]
    assert f"PRISM runs at http://127.0.0.1:{port}" in installed.stdout
    assert "The service does not see PRISM_LOG_LEVEL of this shell" in installed.stderr
    again = json.loads(prism("service", "install", "--user", "--json").stdout)
    assert not again["changed"]
    os.kill(again["pid"], signal.SIGKILL)
    wait_for(lambda: prism("status").returncode == 0, 120, "the restart of the service")
    status = json.loads(prism("service", "status", "--user", "--json").stdout)
    assert (status["state"], status["restarts"], status["url"]) == ("active", 1, f"http://127.0.0.1:{port}")
    assert status["starts_with_the_machine"]
    assert json.loads(prism("models", "show", "iris", "--json").stdout)["replica"]["pid"] == replica

    removed = prism("service", "uninstall", "--user")
    assert removed.returncode == 0, removed.stderr
    assert not alive(replica)
    assert prism("service", "status", "--user").returncode == 3


@pytest.mark.slow
def test_a_service_that_cannot_start_is_told_at_its_installation(prism: Prism, tmp_path: Path) -> None:
    assert prism("config", "set", "host", "0.0.0.0").returncode == 0
    refused = prism("service", "install", "--user")
    assert refused.returncode == 1
    assert "no admin key is set" in refused.stderr

    config, port = tmp_path / "my home" / "config.yaml", free_port()
    config.write_text(f"serving:\n  port: {port}\n  admin_keys: ${{MY_KEYS}}\n")
    failed = prism("service", "install", "--user", MY_KEYS="abc")
    assert failed.returncode == 1
    assert "The service does not see MY_KEYS of this shell." in failed.stderr
    assert "The service ended before it answered." in failed.stderr

    (config.parent / "service.env").write_text("MY_KEYS=abc\n")
    installed = prism("service", "install", "--user", MY_KEYS="abc")
    assert installed.returncode == 0, installed.stderr
    assert "does not see" not in installed.stderr
    assert prism("status", PRISM_API_KEY="abc").returncode == 0
