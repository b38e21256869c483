"""The unit of systemd: what is in it, that systemd takes it, and what is told where there is no systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.errors import InvalidSetting
from prism.cli import app, systemd
from prism.cli.systemd import Manager, unit_text


def test_the_unit_starts_this_python_in_its_home() -> None:
    lines = unit_text(Path("/srv/prism"), Path("/etc/prism.yaml"), is_system=False).splitlines()

    assert f'ExecStart="{sys.executable}" "-m" "app.serve"' in lines
    assert 'Environment="PRISM_HOME=/srv/prism"' in lines
    assert 'Environment="PRISM_CONFIG=/etc/prism.yaml"' in lines
    assert "EnvironmentFile=-/srv/prism/service.env" in lines
    assert {"KillMode=process", "Delegate=yes", "WantedBy=default.target"} <= set(lines)
    assert not [line for line in lines if line.startswith("User=")]


def test_a_units_words_mean_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", '/o p/$HOME/%h/"py"')
    lines = unit_text(Path('/a b/%h/"q"/\\z'), None, is_system=False).splitlines()

    assert r'ExecStart="/o p/$$HOME/%%h/\"py\"" "-m" "app.serve"' in lines
    assert r'Environment="PRISM_HOME=/a b/%%h/\"q\"/\\z"' in lines
    with pytest.raises(InvalidSetting, match="cannot be part of a unit"):
        unit_text(Path("/a\nUser=root"), None, is_system=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_the_systems_unit_runs_as_the_owner_of_the_home(tmp_path: Path) -> None:
    assert "User=" not in unit_text(tmp_path / "not" / "yet", None, is_system=True)
    os.chown(tmp_path, 65534, 65534)
    text = unit_text(tmp_path / "not" / "yet", None, is_system=True)

    assert "\nUser=nobody\n" in text
    assert "\nWantedBy=multi-user.target\n" in text


def test_systemctl_gets_what_it_needs_of_the_shells_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\nenv\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("PRISM_API_KEYS", "hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    seen = Manager(is_system=False).control("daemon-reload")

    assert "XDG_RUNTIME_DIR=/run/user/1000" in seen.splitlines()
    assert "hidden" not in seen


@pytest.mark.systemd
@pytest.mark.parametrize("home", ["/srv/prism", '/a b/%h/"q"/ü', "/$HOME/${X}"])
@pytest.mark.parametrize("scope", ["--system", "--user"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, home: str, scope: str) -> None:
    unit = tmp_path / "prism.service"
    unit.write_text(unit_text(Path(home), Path(home) / "config.yaml", is_system=scope == "--system"))
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    verified = subprocess.run(
        ["systemd-analyze", "verify", scope, str(unit)], env=environ, capture_output=True, text=True, check=False
    )

    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("command", ["install", "uninstall", "status"])
def test_without_systemd_the_next_step_is_told(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "not there")
    refused = CliRunner().invoke(app, ["service", command])

    assert refused.exit_code == 1
    assert "This machine is not run by systemd" in refused.stderr
    assert "prism run --foreground" in refused.stderr


def test_a_unit_of_another_hand_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    (tmp_path / "systemctl").chmod(0o755)
    unit = Manager(is_system=False).unit
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    for command in ("install", "uninstall"):
        refused = CliRunner().invoke(app, ["service", command, "--user"], env={"PRISM_HOME": str(tmp_path)})
        assert refused.exit_code == 1
        assert f"{unit} was not written by PRISM." in refused.stderr
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"
