"""What docs/streaming.md shows, done as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server

PAGE = (CHECKOUT / "docs" / "streaming.md").read_text()
MODEL, SCRIPT = re.findall(r"```python\n(.*?)```", PAGE, re.S)
CONSOLE = "".join(re.findall(r"```console\n(.*?)```", PAGE, re.S))
COMMANDS = re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", CONSOLE, re.S | re.M)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "echo").mkdir()
    (folder / "echo" / "model.py").write_text(MODEL)
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process") as server:
        said = run(server, COMMANDS[0][0], folder)
        assert "echo" in said
        yield server


def run(server: Server, line: str, folder: Path) -> str:
    """What the command prints; on the port of this server."""
    words = shlex.split(re.sub(r"\b8000\b", str(server.port), line))
    if words[0] == "prism":
        words = [sys.executable, "-m", "prism.cli", *words[1:], "--url", server.url]
    environ = {**server.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    return done.stdout


def without_ids(text: str) -> str:
    return re.sub(r'("(?:model_id|request_id)":)"[^"]*"', r'\1"…"', text)


@pytest.mark.parametrize(("line", "promised"), COMMANDS[1:], ids=[line[:30] for line, _ in COMMANDS[1:]])
def test_each_command_prints_what_is_shown(server: Server, tmp_path: Path, line: str, promised: str) -> None:
    assert without_ids(run(server, line, tmp_path)).rstrip("\n") == promised.rstrip("\n")


def test_the_script_prints_what_is_shown(server: Server) -> None:
    code = re.sub(r"\b8000\b", str(server.port), SCRIPT)
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"{line[2:]}\n" for line in SCRIPT.splitlines() if line.startswith("# "))


def test_the_page_is_read_whole() -> None:
    assert len(COMMANDS) == 7
