"""The command line against a small real server; `python -m prism.cli` in a process of its own only where needed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer import testing
from typer.testing import CliRunner, Result

from prism.cli import app
from tests.unit.prism.small_server import SmallServer, document


def prism(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


@pytest.fixture(autouse=True)
def at_the_small_server(server: SmallServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_URL", server.url)


COMMANDS = [
    "run",
    "stop",
    "status",
    "config get",
    "config set",
    "config edit",
    "config check",
    "push",
    "predict",
    "bench",
    "open",
    "doctor",
    "lint",
    "format",
]
MODEL_COMMANDS = ["ls", "show", "rm", "logs", "start", "stop", "restart"]


@pytest.mark.parametrize("command", [*COMMANDS, *(f"models {command}" for command in MODEL_COMMANDS)])
def test_every_command_takes_json_and_none_takes_a_key(command: str) -> None:
    told = prism(*command.split(), "--help").stdout
    assert "--json" in told
    assert "--api-key " not in told


def test_the_help_tells_every_exit_code() -> None:
    told = prism("--help").stdout
    for code in (
        "0 success",
        "1 error",
        "2 wrong usage",
        "3 not found",
        "4 unhealthy",
        "5 not allowed",
        "130 interrupted",
    ):
        assert code in told


def test_the_help_loads_neither_the_clients_nor_rich_nor_the_server() -> None:
    script = (
        "import sys; from prism.cli import app; heavy = {'httpx2', 'rich', 'app.settings', 'psutil', 'docker', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_version_is_one_line() -> None:
    result = prism("--version")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1


def test_a_push_shows_each_step_the_evidence_the_endpoint_and_a_line_to_copy(
    server: SmallServer, model_file: Path
) -> None:
    server.states = [document("building"), document("starting"), document("live")]
    result = prism("push", str(model_file), "--name", "iris", "--requirements", "numpy==2.1")
    assert result.exit_code == 0
    steps = [line.split()[0] for line in result.stderr.splitlines()[:7]]
    assert steps == ["Upload", "Inspect", "Resolve", "Build", "Start", "Probe", "Live"]
    assert "scikit-learn==1.5.2  `_sklearn_version` is 1.5.2" in result.stdout
    assert "iris@1.0.0 is live at http://127.0.0.1:1/models/iris/predict" in result.stdout
    command = shlex.split(result.stdout.splitlines()[-1])
    assert command[0] == "curl"
    assert json.loads(command[-1]) == {"input": [5.1, "it's"]}
    assert b"numpy==2.1" in server.upload


def test_a_push_that_does_not_run_only_uploads(server: SmallServer, model_file: Path) -> None:
    server.states = [document("built")]
    result = prism("push", str(model_file), "--no-run")
    assert result.exit_code == 0
    assert server.requests[0] == ("POST", "/models/upload?wait=false")
    assert "prism models start iris@1.0.0" in result.stderr


def test_a_failed_push_shows_the_reason_and_the_relevant_lines(server: SmallServer, model_file: Path) -> None:
    error = {"code": "build_failed", "detail": "No wheel.", "hint": "Try 3.12.", "log_lines": ["a\x1b[2Jline"]}
    server.states = [document("building"), document("failed", error=error)]
    result = prism("push", str(model_file))
    assert result.exit_code == 1
    assert "Build    failed after" in result.stderr
    assert "Error: No wheel." in result.stderr
    assert "  | a�[2Jline" in result.stderr
    assert "Try 3.12." in result.stderr
    assert result.stdout == ""


def test_the_arguments_of_a_push_are_checked_before_anything_is_sent(
    server: SmallServer, model_file: Path, tmp_path: Path
) -> None:
    assert prism("push", str(tmp_path / "nothing.pkl")).exit_code == 2
    assert "line 1, column 2" in prism("push", str(model_file), "--expected-input", "{bad").stderr
    assert "absent.txt" in prism("push", str(model_file), "--requirements", "absent.txt").stderr
    assert "absent.json" in prism("push", str(model_file), "--expected-input", "@absent.json").stderr
    assert server.requests == []


def test_requirements_and_samples_are_read_from_files(server: SmallServer, model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy==9.9\n")
    (tmp_path / "sample.json").write_text('{"input": [42]}')
    options = ["--requirements", str(tmp_path / "requirements.txt"), "--expected-input", f"@{tmp_path}/sample.json"]
    assert prism("push", str(model_file), *options).exit_code == 0
    assert b"numpy==9.9" in server.upload
    assert b'{"input": [42]}' in server.upload


def test_packages_are_allowed_by_name(server: SmallServer, model_file: Path) -> None:
    options = ["--allow-package", "acme", "--allow-package", "other=other-models"]
    assert prism("push", str(model_file), *options).exit_code == 0
    assert b"acme,other=other-models" in server.upload


def test_predictions_are_data_one_a_line_and_the_rest_is_messages() -> None:
    result = prism("predict", "iris", '{"input": [1]}')
    assert (result.exit_code, result.stdout) == (0, '"setosa"\n')
    assert "iris 1.0.0, queue 0.1 ms, inference 2.5 ms, request r1" in result.stderr


def test_a_prediction_is_asked_by_argument_file_or_standard_input(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text("[1]")
    for arguments, stdin in [(["[1]"], None), (["-f", str(tmp_path / "body.json")], None), (["-"], "[1]")]:
        assert prism("predict", "iris", *arguments, stdin=stdin).stdout == '"setosa"\n'
    assert prism("predict", "iris").exit_code == 2
    assert prism("predict", "iris", "[1]", "-f", str(tmp_path / "body.json")).exit_code == 2


def test_an_image_is_asked_by_its_path(tmp_path: Path) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    for arguments, stdin in [([str(image)], None), (["-f", str(image)], None), (["-"], image.read_bytes())]:
        assert prism("predict", "iris", *arguments, stdin=stdin).stdout == '"setosa"\n'
    absent = prism("predict", "iris", "absent.jpg")
    assert absent.exit_code == 1
    assert "There is no file absent.jpg" in absent.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [("cat.png", b"<html>"), ("cat.gif", b"GIF89a\x05\0\x05\0"), ("a.mp3", b"ID3\x04\0\0\0"), ("a.wav", b"text")],
)
def test_a_file_that_is_no_input_is_not_read_as_a_table(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for arguments in [[str(tmp_path / name)], ["-f", str(tmp_path / name)]]:
        result = prism("predict", "iris", *arguments)
        assert result.exit_code == 1
        assert f"{name} is neither a PNG, JPEG or WebP image" in result.stderr


def test_probabilities_are_shown_with_their_classes() -> None:
    said = json.loads(prism("predict", "iris", "[1]", "--probabilities").stdout)
    assert said == {"prediction": "setosa", "probabilities": {"setosa": 0.9, "other": 0.1}}


def test_an_input_that_is_not_json_shows_where_it_breaks() -> None:
    result = prism("predict", "iris", "{input: 1}")
    assert result.exit_code == 1
    assert "line 1, column 2" in result.stderr
    assert "Traceback" not in result.output


def test_with_json_the_whole_answer_is_data_and_an_error_is_json_on_standard_error() -> None:
    assert json.loads(prism("predict", "iris", "[1]", "--json").stdout)["predictions"] == ["setosa"]
    result = prism("predict", "nobody", "[1]", "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert json.loads(result.stderr)["code"] == "not_found"


def test_models_are_listed_and_shown() -> None:
    assert "iris  1.0.0    live    process  -         1.2 kB  m1" in prism("models", "ls").stdout
    shown = prism("models", "show", "iris").stdout
    assert "Python 3.11" in shown
    assert "scikit-learn==1.5.2" in shown
    assert json.loads(prism("models", "show", "iris", "--json").stdout)["not_known_to_this_sdk"] is True


def test_an_unknown_model_is_exit_code_3() -> None:
    result = prism("models", "show", "nobody")
    assert result.exit_code == 3
    assert "Error: No model is called `nobody`." in result.stderr
    assert "Request r1" in result.stderr


def test_removing_needs_consent(server: SmallServer) -> None:
    refused = prism("models", "rm", "iris", "--no-input")
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    assert all(method == "GET" for method, _ in server.requests)
    removed = prism("models", "rm", "iris", "--yes")
    assert removed.exit_code == 0
    assert "container prism_model_m1" in removed.stdout


def test_failed_versions_are_removed_together_and_a_model_named_twice_once(server: SmallServer) -> None:
    assert prism("models", "rm", "--yes").exit_code == 2
    assert prism("models", "rm", "iris", "--failed", "--yes").exit_code == 2
    assert prism("models", "rm", "--failed", "--yes").stdout == "No version has failed.\n"
    assert not [path for method, path in server.requests if method == "DELETE"]
    server.states = [document("failed")]
    refused = prism("models", "rm", "--failed", "--no-input")
    assert (refused.exit_code, "Removing iris@1.0.0 cannot be undone" in refused.stderr) == (1, True)
    assert "container prism_model_m1" in prism("models", "rm", "--failed", "--yes").stdout
    assert prism("models", "rm", "iris", "iris", "--yes").stdout.count("Removed") == 1


def test_a_prune_says_what_goes_before_it_removes_that(server: SmallServer) -> None:
    assert prism("storage", "prune", "--yes").stdout == "Nothing is left over.\n"
    server.leftovers = [{"name": "prism_model_m9", "size_bytes": 7_000_000, "reason": "its model is gone"}]
    listed = prism("storage", "ls").stdout
    assert "iris@1.0.0  6.0 MB  prism_model_m1" in listed
    assert "prism_model_m9  7.0 MB  its model is gone" in listed
    refused = prism("storage", "prune", "--no-input")
    assert (refused.exit_code, "Removing prism_model_m9" in refused.stderr) == (1, True)
    assert ("POST", "/storage/prune") not in server.requests
    assert prism("storage", "prune", "--yes").stdout == "Removed 1 of 1 images, 7.0 MB.\n"


def test_a_failure_is_dismissed(server: SmallServer) -> None:
    assert "no longer needs attention" in prism("models", "dismiss", "iris").stdout
    assert ("POST", "/models/iris/dismiss") in server.requests


def test_status_is_exit_code_4_and_says_so_while_the_engine_is_gone(server: SmallServer) -> None:
    server.unavailable = ["docker"]
    result = prism("status")
    assert (result.exit_code, "Docker does not answer" in result.stderr) == (4, True)


def test_times_of_log_lines_are_printed_if_asked_for(server: SmallServer) -> None:
    assert prism("logs", "iris", "-t").exit_code == 0
    assert prism("logs", "iris", "--timestamps", "--follow").exit_code == 0
    assert prism("logs", "iris").exit_code == 0
    assert ["timestamps=true" in path for _, path in server.requests if "/logs" in path] == [True, True, False]


def test_log_lines_cannot_write_to_the_terminal() -> None:
    assert prism("models", "logs", "iris").stdout == "line 1\n�[31mred\nlast\n"
    assert prism("models", "logs", "iris", "--follow", "--json").stdout == '"line 1"\n"line 2"\n"line 3"\n'


def test_models_are_stopped_started_and_restarted() -> None:
    assert "iris@1.0.0 is stopped." in prism("models", "stop", "iris").stdout
    assert "iris@1.0.0 is live." in prism("models", "start", "iris").stdout
    assert prism("models", "restart", "iris").exit_code == 0


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing._NamedTextIOWrapper, "isatty", lambda self: True, raising=False)


def starts(server: SmallServer) -> list[str]:
    return [path for method, path in server.requests if method == "POST" and "/start" in path]


def test_what_a_start_stops_is_said_before_and_asked_on_a_terminal(
    server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stops = ["fraud@1.0.0"]
    told = "Once iris is live, this stops fraud@1.0.0: one model is live at a time. With --keep they run side by side."
    result = prism("models", "start", "iris", stdin="")
    assert (result.exit_code, told in result.stderr) == (0, True), "nobody to ask"
    on_a_terminal(monkeypatch)
    refused = prism("models", "start", "iris", stdin="n\n")
    assert (refused.exit_code, told in refused.stderr, "Start iris?" in refused.stderr) == (1, True, True)
    assert starts(server) == ["/models/iris/start"], "the first of the two"
    assert prism("models", "start", "iris", stdin="y\n").exit_code == 0
    assert told in prism("models", "start", "iris", "--yes", stdin="").stderr
    assert len(starts(server)) == 3
    kept = prism("models", "start", "iris", "--keep", stdin="")
    assert (kept.exit_code, "stops" in kept.stderr) == (0, False)
    assert starts(server)[-1] == "/models/iris/start?keep=true"


def test_a_start_that_stops_nothing_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    result = prism("models", "start", "iris", stdin="")
    assert (result.exit_code, "stops" in result.stderr) == (0, False)


def test_status_is_exit_code_4_while_a_wanted_model_is_down(server: SmallServer) -> None:
    assert prism("status").exit_code == 0
    server.down = ["m1"]
    result = prism("status")
    assert result.exit_code == 4
    assert "prism models show m1" in result.stderr


def test_status_names_a_model_that_failed_before_it_was_live_and_is_exit_code_0(server: SmallServer) -> None:
    server.failed = [{"model_id": "m2", "code": "start_failed"}]
    result = prism("status")
    assert result.exit_code == 0
    assert "prism models show m2" in result.stderr


def test_status_is_exit_code_3_without_a_server(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_URL", f"http://127.0.0.1:{closed_port}")
    result = prism("status", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"server": None, "models": []}


def test_without_a_server_every_command_says_how_to_start_one(closed_port: int, model_file: Path) -> None:
    for command in (["push", str(model_file)], ["models", "ls"], ["predict", "iris", "[1]"], ["open"]):
        result = prism(*command, "--url", f"http://127.0.0.1:{closed_port}")
        assert result.exit_code == 1
        assert "prism run" in result.stderr


def test_a_key_comes_from_a_file_or_the_environment(
    server: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "right"
    assert prism("models", "ls").exit_code == 5
    (tmp_path / "key").write_text("right\n")
    assert prism("models", "ls", "--api-key-file", str(tmp_path / "key")).exit_code == 0
    monkeypatch.setenv("PRISM_API_KEY", "right")
    assert prism("models", "ls").exit_code == 0


def test_an_invalid_url_is_wrong_usage() -> None:
    result = prism("models", "ls", "--url", "localhost:8000")
    assert result.exit_code == 2
    assert "http://127.0.0.1:8000" in result.stderr


def test_a_bad_setting_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_PORT", "many")
    result = prism("run")
    assert result.exit_code == 1
    assert "PRISM_PORT='many'" in result.stderr
    assert "Traceback" not in result.output


def test_lint_finds_and_format_fixes(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("import sys\nimport os\nprint( os,sys )\nx = undefined\n")
    assert prism("lint", str(file)).exit_code == 1
    assert prism("format", str(file), "--json").exit_code == 0
    assert file.read_text().startswith("import os\nimport sys\n\nprint(os, sys)\n")


def test_the_reader_of_a_pipe_may_leave_early(server: SmallServer) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "prism.cli", "models", "logs", "iris"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    os.close(writing)
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
