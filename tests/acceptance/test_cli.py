"""The `prism` command against a real server that it starts and stops itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.server import CHECKOUT, free_port, wait_for
from tests.integration.sshd import alive

Prism = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environ(tmp_path: Path, environments: Path, port: int) -> dict[str, str]:
    """That of a command with a home of its own."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "MODEL_"))}
    return {
        **inherited,
        "PRISM_HOME": str(tmp_path / "home"),
        "PRISM_ENVIRONMENT_ROOT": str(environments),
        "PRISM_TARGET": "process",
        "PRISM_PORT": str(port),
    }


@pytest.fixture
def prism(tmp_path: Path, environ: dict[str, str]) -> Iterator[Prism]:
    """Runs the command in a home of its own, from a folder that has an `app` and a `prism` of its own."""
    for trap in ("app", "prism"):
        (tmp_path / trap).mkdir()
        (tmp_path / trap / "__init__.py").write_text("raise SystemExit('the wrong package')")
    script = f"import sys; sys.path[:] = [{str(CHECKOUT)!r}, *sys.path[1:]]; from prism.cli import main; main()"

    def run(*arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**environ, **settings}, input=stdin, capture_output=True, text=True, timeout=300
        )

    yield run
    run("stop")


def test_from_a_file_to_a_prediction_and_back_to_nothing(prism: Prism, iris_file: Path, port: int) -> None:
    assert prism("status").returncode == 3
    started = prism("run")
    assert started.returncode == 0, started.stderr
    assert f"PRISM runs at http://127.0.0.1:{port}" in started.stdout

    pushed = prism("push", str(iris_file), "--name", "iris")
    assert pushed.returncode == 0, pushed.stderr
    assert "scikit-learn==" in pushed.stdout
    curl = subprocess.run(pushed.stdout.splitlines()[-1], shell=True, capture_output=True, text=True)
    assert json.loads(curl.stdout)["model"] == "iris"

    sample = json.dumps(json.loads(prism("models", "show", "iris", "--json").stdout)["sample"])
    for arguments, stdin in [((sample,), ""), (("-",), sample)]:
        predicted = prism("predict", "iris", *arguments, stdin=stdin)
        assert predicted.stdout.strip() in {'"setosa"', '"versicolor"', '"virginica"'}
    assert prism("status").returncode == 0
    assert prism("models", "logs", "iris", "--build").stdout

    assert "iris@1.0.0 is stopped." in prism("models", "stop", "iris").stdout
    assert prism("predict", "iris", sample).returncode in (1, 4)
    assert "iris@1.0.0 is live." in prism("models", "start", "iris").stdout

    replica = json.loads(prism("models", "show", "iris", "--json").stdout)["replica"]["pid"]
    assert prism("stop").returncode == 0
    assert not psutil.pid_exists(replica)
    assert prism("status").returncode == 3


def test_the_quickstart_goes_to_its_end_beside_a_model_that_is_down(
    prism: Prism, environ: dict[str, str], iris_file: Path, port: int
) -> None:
    assert prism("run").returncode == 0
    pushed = json.loads(prism("push", str(iris_file), "--name", "damaged", "--json").stdout)
    assert prism("stop").returncode == 0
    (artifact,) = Path(environ["PRISM_HOME"]).glob(f"model_store/uploads/{pushed['model_id']}/artifact/*")
    artifact.chmod(0o600)
    artifact.write_bytes(b"no model any more")

    quickstart = subprocess.run(
        [CHECKOUT / "scripts" / "quickstart"],
        env={**environ, "PRISM_VENV": sys.prefix},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert quickstart.returncode == 0, quickstart.stdout + quickstart.stderr
    assert "degraded: a model that should be live takes no traffic" in quickstart.stdout
    assert f"Dashboard    http://127.0.0.1:{port}/" in quickstart.stdout
    assert quickstart.stdout.rstrip().endswith("prism stop")
    assert prism("status").returncode == 4


def test_a_server_that_runs_already_is_said_to(prism: Prism) -> None:
    first = json.loads(prism("run", "--json").stdout)
    again = prism("run", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout) == {**first, "already_running": True}
    assert prism("stop").returncode == 0
    idle = prism("stop")
    assert (idle.returncode, idle.stdout) == (0, "PRISM is not running.\n")


def test_the_port_argument_wins_and_a_taken_port_is_named(prism: Prism, tmp_path: Path) -> None:
    other = free_port()
    assert json.loads(prism("run", str(other), "--json").stdout)["url"] == f"http://127.0.0.1:{other}"
    elsewhere = prism("run", str(other), PRISM_HOME=str(tmp_path / "another"))
    assert elsewhere.returncode == 1
    assert f"Port {other} on 127.0.0.1 is taken" in elsewhere.stderr


def test_settings_last_and_a_server_that_runs_is_found_and_told_what_would_change(
    prism: Prism, environ: dict[str, str], tmp_path: Path
) -> None:
    del environ["PRISM_PORT"]
    ports = [free_port() for _ in range(3)]
    assert prism("config", "set", "port", str(ports[0])).returncode == 0
    config = tmp_path / "home" / "config.yaml"
    config.write_text(f"# mine\n{config.read_text()}providers: {{}}\n")

    first = prism("run")
    assert first.stdout == f"PRISM runs at http://127.0.0.1:{ports[0]}\n"
    assert "`providers` is known, but this version does not serve it yet" in first.stderr
    changed = prism("config", "set", "port", str(ports[1]))
    assert "prism stop --keep-models && prism run" in changed.stderr
    assert config.read_text().startswith("# mine\n")

    assert prism("status").returncode == 0
    again = json.loads(prism("run", "--json").stdout)
    assert again["already_running"]
    (change,) = again["changes"]
    assert change | {"source": ""} == {"setting": "port", "old": str(ports[0]), "new": str(ports[1]), "source": ""}
    assert "prism stop && prism run --target auto" in prism("run", "--target", "auto").stderr

    config.write_text("serving:\n  prot: 1\n")
    assert "Did you mean `port`?" in prism("run").stderr
    assert prism("status").returncode == 0
    assert prism("stop").returncode == 0

    other = tmp_path / "other.yaml"
    other.write_text(f"serving:\n  port: ${{A_PORT}}\n  home: {tmp_path / 'second'}\n")
    del environ["PRISM_HOME"]
    second = prism("run", "--config", str(other), A_PORT=str(ports[2]))
    assert second.stdout == f"PRISM runs at http://127.0.0.1:{ports[2]}\n"
    assert (tmp_path / "second" / "model_store" / "run" / "server.json").exists()
    assert prism("status", PRISM_CONFIG=str(other)).returncode == 0
    assert prism("stop", "--config", str(other)).returncode == 0


def test_a_killed_server_leaves_a_record_that_misleads_nobody(prism: Prism) -> None:
    pid = json.loads(prism("run", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), 30, "the server's end")
    assert prism("status").returncode == 3
    assert prism("run").returncode == 0


def test_models_outlive_a_server_that_is_stopped_to_keep_them(prism: Prism, iris_file: Path) -> None:
    assert prism("run").returncode == 0
    pushed = prism("push", str(iris_file), "--name", "iris", "--json")
    assert pushed.returncode == 0, pushed.stderr
    replica = json.loads(pushed.stdout)["replica"]["pid"]
    assert prism("stop", "--keep-models").returncode == 0
    assert psutil.pid_exists(replica)
    assert prism("run").returncode == 0
    assert json.loads(prism("models", "show", "iris", "--json").stdout)["replica"]["pid"] == replica


def test_the_doctor_finds_this_machine_fit(prism: Prism) -> None:
    told = json.loads(prism("doctor", "--json").stdout)["checks"]
    assert {check["name"] for check in told} >= {"python", "settings", "uv", "package index", "disk", "port"}
    assert all(check["fix"] for check in told if check["level"] != "ok")


def test_the_doctor_asks_the_running_server_which_has_settings_of_its_own(prism: Prism) -> None:
    assert prism("run").returncode == 0
    told = {
        check["name"]: check for check in json.loads(prism("doctor", "--json", PRISM_TARGET="auto").stdout)["checks"]
    }
    assert told["docker engine"]["result"] == "not needed: PRISM_TARGET=process", "of the server, not of this shell"
    assert (told["server"]["level"], "answers at" in told["server"]["result"]) == ("ok", True)
    assert "is used by this PRISM server" in told["port"]["result"]


def test_the_doctor_names_a_bad_setting(prism: Prism) -> None:
    result = prism("doctor", PRISM_PORT="many")
    assert result.returncode == 1
    assert "PRISM_PORT='many'" in result.stdout
