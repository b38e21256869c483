"""`prism config`: settings shown, changed and checked, with no secret in sight."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.settings import Settings, is_secret, variable
from prism.cli import app


def prism(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["config", *arguments], input=stdin)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings of an empty home are written."""
    for name in [name for name in os.environ if name.upper().startswith(("PRISM_", "MODEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PRISM_HOME", str(tmp_path))
    return tmp_path / "config.yaml"


def test_a_setting_is_written_and_read_back(file: Path) -> None:
    file.write_text("serving:\n  host: localhost # here\n")
    file.chmod(0o644)

    assert prism("set", "port", "9000").exit_code == 0
    assert file.read_text() == "serving:\n  host: localhost # here\n  port: 9000\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert prism("get", "port").stdout == "9000\n"
    assert json.loads(prism("get", "PRISM_PORT", "--json").stdout) == {
        "setting": "port",
        "value": "9000",
        "source": "config.yaml, line 3",
    }
    assert "port " in prism("get").stdout


def test_a_setting_is_taken_out_again(file: Path) -> None:
    file.write_text("serving:\n  port: 9000\n  host: localhost # here\n")
    result = prism("unset", "port", "--json")
    assert json.loads(result.stdout) == {"setting": "port", "config": str(file), "changed": True}
    assert file.read_text() == "serving:\n  host: localhost # here\n"
    again = prism("unset", "PRISM_PORT")
    assert (again.exit_code, again.stdout) == (0, f"port is not set in {file}.\n")
    file.unlink()
    assert prism("unset", "port").exit_code == 0
    assert not file.exists()
    assert "Did you mean `port`?" in prism("unset", "prot").stderr


def test_a_variable_that_still_sets_it_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("serving:\n  port: 9000\n")
    monkeypatch.setenv("PRISM_PORT", "9001")
    assert "PRISM_PORT is set here, and wins over the file" in prism("unset", "port").stderr


def test_a_link_to_the_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.yaml").write_text("serving: {port: 1}\n")
    file.symlink_to("dotfiles.yaml")

    assert prism("set", "port", "9000").exit_code == 0
    assert file.is_symlink()
    assert (tmp_path / "dotfiles.yaml").read_text() == "serving: {port: 9000}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes files of others")
def test_a_file_that_root_writes_stays_its_owners(file: Path, tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)

    for port in ("9000", "9001"):
        assert prism("set", "port", port).exit_code == 0
        assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (65534, 0o600)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("port", "abc"), "port='abc': Input should be a valid integer"),
        (("port", "70000"), "port='70000': Input should be less than or equal to 65535"),
        (("target", "moon"), "Input should be 'auto', 'docker' or 'process'"),
        (("prot", "1"), "prot is no setting.\nDid you mean `port`?"),
        (("host", "${NOT_SET_HERE}"), "the environment variable NOT_SET_HERE is not set"),
        (("admin_keys", "topsecret"), "admin_keys is not taken as an argument"),
    ],
)
def test_a_value_that_is_wrong_is_not_written(file: Path, arguments: tuple[str, ...], told: str) -> None:
    refused = prism("set", *arguments)

    assert refused.exit_code == 1
    assert told in refused.stderr
    assert "topsecret" not in refused.output
    assert not file.exists()


def test_a_secret_is_taken_from_standard_input_and_shown_nowhere(file: Path) -> None:
    assert prism("set", "admin_keys", stdin="topsecret,second\n").exit_code == 0
    assert "topsecret,second" in file.read_text()
    shown = [prism(*arguments).output for arguments in (("get",), ("get", "admin_keys"), ("get", "--json"), ("check",))]
    assert "(hidden)" in shown[1]
    assert "topsecret" not in "".join(shown)


def test_a_secret_may_be_the_name_of_a_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", "topsecret")

    assert prism("set", "admin_keys", "${MY_KEYS}").exit_code == 0
    assert file.read_text().endswith('\n  admin_keys: "${MY_KEYS}"\n')


def test_a_setting_that_the_environment_decides_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_PORT", "8000")

    assert "PRISM_PORT is set here, and wins over the file" in prism("set", "port", "9000").stderr
    assert "warning: `port` counts for nothing: PRISM_PORT is set, and wins" in prism("check").stdout


def test_what_keeps_a_server_from_starting_is_told_when_it_is_set_and_checked(file: Path) -> None:
    assert "no admin key is set" in prism("set", "host", "0.0.0.0").stderr
    checked = prism("check")
    assert checked.exit_code == 1
    assert "no admin key is set" in checked.stdout


def test_the_check_names_every_mistake_with_its_line(file: Path) -> None:
    assert "There is no" in prism("check").stdout
    file.write_text("serving:\n  prot: 1\n  port: x\nproviders: {}\n")
    checked = prism("check", "--json")

    assert checked.exit_code == 1
    assert [(one["line"], one["level"]) for one in json.loads(checked.stdout)["problems"]] == [
        (2, "error"),
        (3, "error"),
        (4, "warning"),
    ]
    file.write_text("serving:\n  port: 9000\n")
    file.chmod(0o644)
    assert prism("check").stdout == f"{file} is correct.\n"
    file.write_text("serving:\n  api_keys: abc\n")
    warned = prism("check")
    assert warned.exit_code == 0
    assert f"other users may read this file, which has keys in it. chmod 600 {file}" in warned.stdout


def test_another_file_is_taken_with_config(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_CONFIG", "")  # so that it is unset again in the end
    other = tmp_path / "other.yaml"

    assert prism("check", "--config", str(other)).exit_code == 1
    assert prism("set", "port", "9000", "--config", str(other)).exit_code == 0
    assert "port: 9000" in other.read_text()
    assert not file.exists()


def editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_editor_gets_the_text_and_a_result_without_mistakes_is_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("serving:\n  port: 1 # mine\n")
    monkeypatch.setenv("VISUAL", editor(tmp_path, 'sed -i s/1/9000/ "$1"'))

    assert prism("edit").exit_code == 0
    assert file.read_text() == "serving:\n  port: 9000 # mine\n"


def test_the_editor_gets_the_variables_of_the_shell_without_those_of_prism(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", editor(tmp_path, 'env > "$0.saw"'))
    monkeypatch.setenv("VIMINIT", "set number")
    monkeypatch.setenv("PRISM_API_KEY", "hidden")
    for name in filter(is_secret, Settings.model_fields):
        monkeypatch.setenv(variable(name), "hidden")

    assert prism("edit").exit_code == 0
    seen = (tmp_path / "editor.saw").read_text()
    assert "VIMINIT=set number" in seen.splitlines()
    assert "hidden" not in seen


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('echo "  prot: 1" >> "$1"', "line 3: `prot` is no setting. Did you mean `port`?"),
        ('echo "  queue_length: 5" >> "$1"; exit 3', "ended with exit code 3"),
        ('rm "$1"', "left no text that can be read"),
        ('echo "# other" >> "$(cat "$0.of")"; sed -i s/1/2/ "$1"', "was changed by another program"),
    ],
)
def test_a_result_that_is_wrong_is_not_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    file.write_text("serving:\n  port: 1\n")
    monkeypatch.setenv("VISUAL", editor(tmp_path, script))
    (tmp_path / "editor.of").write_text(str(file))
    refused = prism("edit")

    assert refused.exit_code == 1
    assert told in refused.stderr
    assert file.read_text().startswith("serving:\n  port: 1\n")
    assert "prot" not in file.read_text()


def test_without_an_editor_the_next_step_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    refused = prism("edit")

    assert refused.exit_code == 1
    assert "No editor can be opened here.\nSet EDITOR, or use `prism config set`." in refused.stderr
