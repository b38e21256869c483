"""Which source a setting is read from, and how a mistake in any of them is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.config.loading import config_path, load_places, load_settings, sources, warnings
from app.config.recorded import HIDDEN, TAKEN_AT_A_MODELS_START, changed, recorded, shown
from app.errors import InvalidSetting
from app.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.upper().startswith(("PRISM_", "MODEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PRISM_HOME", str(tmp_path))
    return tmp_path


def write(home: Path, *lines: str) -> Path:
    path = home / "config.yaml"
    path.write_text("\n".join(["serving:", *(f"  {line}" for line in lines)]))
    return path


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, "port: 9000", "grpc_port: 9001", "queue_length: 7", "debug_mode: on", "model_upload_root: up")
    monkeypatch.setenv("PRISM_GRPC_PORT", "9002")
    monkeypatch.setenv("MODEL_UPLOAD_ROOT", "elsewhere")
    settings = load_settings(queue_length=8)

    assert (settings.port, settings.grpc_port, settings.queue_length) == (9000, 9002, 8)
    assert settings.debug_mode
    assert settings.upload_root == home / "elsewhere"
    told = {field: str(source) for field, source in sources().items()}
    assert told["port"] == "config.yaml, line 2"
    assert told["grpc_port"] == "PRISM_GRPC_PORT"
    assert told["model_upload_root"] == "MODEL_UPLOAD_ROOT"
    assert told["host"] == "default"


def test_what_the_environment_decides_need_not_be_right_in_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, "port: ${UNSET_HERE}")
    monkeypatch.setenv("PRISM_PORT", "9000")

    assert load_settings().port == 9000


def test_variables_are_put_in_their_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, 'admin_keys: "${FIRST},${SECOND}"', "port: ${A_PORT}", 'tunnel_ssh_identity: "$${FIRST}"')
    monkeypatch.setenv("FIRST", "a: [1]")
    monkeypatch.setenv("SECOND", "${FIRST}")
    monkeypatch.setenv("A_PORT", "9000")
    settings = load_settings()

    assert settings.keys_of_admins == ("a: [1]", "${FIRST}")
    assert settings.port == 9000
    assert settings.tunnel_ssh_identity == "${FIRST}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("port: x", "line 2: port='x': Input should be a valid integer"),
        ("prot: 1", "line 2: `prot` is no setting"),
        ("api_keys: ${MY_KEYS}", "line 2: `api_keys`: the environment variable MY_KEYS is not set"),
        ("debug_mode: perhaps", "line 2: debug_mode='perhaps': Input should be a valid boolean"),
    ],
)
def test_a_mistake_in_the_file_names_file_line_and_reason(home: Path, line: str, told: str) -> None:
    path = write(home, line)
    with pytest.raises(InvalidSetting) as refused:
        load_settings()

    assert refused.value.detail.startswith(f"{path}, {told}")
    assert refused.value.hint


def test_a_mistake_in_the_environment_names_the_variable_but_no_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, "port: 9000")
    monkeypatch.setenv("DEBUG_MODE", "perhaps")
    with pytest.raises(InvalidSetting, match=r"^DEBUG_MODE='perhaps': "):
        load_settings()
    monkeypatch.setenv("DEBUG_MODE", "no")
    monkeypatch.setenv("PRISM_API_KEYS", "topsecret,")
    with pytest.raises(InvalidSetting, match=r"^PRISM_API_KEYS: has an empty key") as refused:
        load_settings()
    assert "topsecret" not in str(refused.value)


def test_a_mistake_elsewhere_does_not_hide_the_server_that_runs(home: Path) -> None:
    write(home, "port: x", "prot: 1", "host: ${UNSET_HERE}", "run_root: elsewhere")

    assert load_places().run_folder == home / "elsewhere"


def test_prism_config_names_a_file_that_must_be_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = home / "sub" / "own.yaml"
    monkeypatch.setenv("PRISM_CONFIG", str(own))
    assert config_path() == own
    with pytest.raises(InvalidSetting, match=r"own\.yaml does not exist"):
        load_settings()
    own.parent.mkdir()
    own.write_text("serving: {port: 9000, home: place}")
    assert load_settings().port == 9000
    monkeypatch.delenv("PRISM_HOME")
    assert load_settings().home == own.parent / "place"


@pytest.mark.parametrize("content", [b"serving: \xff", b"#" * (1 << 20) + b"\n"])
def test_a_file_that_is_no_text_or_endless_is_refused(home: Path, content: bytes) -> None:
    (home / "config.yaml").write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"config\.yaml"):
        load_settings()


def test_a_folder_in_the_place_of_the_file_is_told(home: Path) -> None:
    (home / "config.yaml").mkdir()
    with pytest.raises(InvalidSetting, match=r"config\.yaml cannot be read: Is a directory"):
        load_settings()


def test_a_tilde_is_the_users_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    write(home, "model_upload_root: ~/models", "models_dir: ~/served", "environment_root: ~nobody-here/x")
    settings = load_settings()

    assert settings.upload_root == Path("/home/me/models")
    assert settings.models_folder == Path("/home/me/served")
    assert settings.environments == home / "~nobody-here/x"


def test_sections_that_mean_nothing_yet_are_warned_of_and_stop_nothing(home: Path) -> None:
    (home / "config.yaml").write_text("serving:\n  port: 9000\nproviders: {}\n")

    assert load_settings().port == 9000
    assert warnings() == (
        f"{home / 'config.yaml'}, line 3: `providers` is known, but this version does not serve it yet.",
    )


def test_a_record_tells_what_changed_and_no_secret() -> None:
    before = Settings(port=8000, admin_keys="topsecret", ngrok_authtoken="t")
    record = recorded(before, salt="5")

    assert "topsecret" not in str(record)
    assert changed(record, before) == ()
    after = Settings(port=9000, admin_keys="other", ngrok_authtoken="")
    assert changed(record, after) == ("port", "admin_keys", "ngrok_authtoken")
    assert [shown(after, field) for field in ("port", "admin_keys", "ngrok_authtoken", "reload")] == [
        "9000",
        HIDDEN,
        "",
        "false",
    ]


def test_a_record_of_an_older_version_is_compared_as_far_as_it_goes() -> None:
    assert changed({}, Settings(port=9000)) == ()
    assert changed({"salt": "x", "port": "8000", "gone": "1"}, Settings(port=9000)) == ("port",)


def test_what_models_take_at_their_start_are_settings() -> None:
    assert Settings.model_fields.keys() >= TAKEN_AT_A_MODELS_START
