"""The help of every command: whole sentences, and examples that the command understands."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from prism.cli import app

PRISM = typer.main.get_command(app)
GROUPS = ["", "models", "canary", "shadow", "share", "keys"]


def commands(group: TyperGroup, path: str = "prism") -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            assert isinstance(command, TyperCommand)
            yield f"{path} {name}", command


assert isinstance(PRISM, TyperGroup)
COMMANDS = dict(commands(PRISM))


@pytest.fixture
def in_a_folder_with_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model.joblib", "model.pkl", "train.py", "rows.json", "data.csv", "sample.json"):
        (tmp_path / name).touch()
    for name in ("folder", "src"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder_with_files")
@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_shows_examples_that_it_understands(path: str) -> None:
    command = COMMANDS[path]
    told = inspect.cleandoc(command.epilog or "").replace("\b", "").strip().splitlines()
    assert told[:1] == ["Examples:"], f"{path} has no examples"
    for line in told[1:]:
        words = shlex.split(line.partition("|")[2] or line)
        assert words[: len(path.split())] == path.split()
        command.make_context(path, words[len(path.split()) :])


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_no_sentence_of_the_list_of_commands_is_cut(group: str, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    told = CliRunner().invoke(app, [*group.split(), "--help"]).stdout.partition("Commands:")[2]
    words = told.split()
    for path, command in COMMANDS.items():
        if path.split()[1:-1] == group.split():
            sentence = (command.help or "").partition(". ")[0].split("\n\n")[0].split()
            begin = words.index(path.split()[-1])
            assert words[begin + 1 :][: len(sentence) - 1] == sentence[:-1]
    assert "..." not in told
    assert "…" not in told
