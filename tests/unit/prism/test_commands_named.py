"""Every `prism …` command and option that errors, pages and documentation name is one that exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from prism.cli import app

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path for folder in ("app", "prism", "model_container") for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted(path for suffix in ("html", "js") for path in (ROOT / "app" / "ui").rglob(f"*.{suffix}"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

PRISM = typer.main.get_command(app)
NAMED = re.compile(r"(?<![\w-])(?<!from )prism +([a-z-][^`\n\"'<#;&]*)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)


def texts(path: Path) -> Iterator[str]:
    """What of a file may name a command: strings of a program, code of a document, all of a page."""
    content = path.read_text()
    match path.suffix:
        case ".py":
            yield from strings(ast.parse(content))
        case ".md":
            yield from CODE.findall(content)
        case _:
            yield content


def strings(tree: ast.Module) -> Iterator[str]:
    """Each with `VALUE` in the place of what is not known yet."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            known = (part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
            yield "".join(map(str, known))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def unknown(line: str) -> str:
    """The first word behind `prism` that names neither a command nor an option of one; "" if each does."""
    commands = [PRISM]
    for word in (each.strip(".,:()[]…") for each in line.replace("\\|", "|").split()):
        groups = [command for command in commands if isinstance(command, TyperGroup)]
        if word.startswith("--"):
            name = word.partition("=")[0]
            params = [param for command in commands for param in command.params]
            if name != "--help" and not any(name in (*param.opts, *param.secondary_opts) for param in params):
                return word
        elif groups:
            found = [group.commands.get(name) for group in groups for name in word.split("|")]
            if None in found:
                return word
            commands = [command for command in found if command is not None]
    return ""


@pytest.mark.parametrize("path", [*SOURCES, *PAGES, *DOCUMENTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists(path: Path) -> None:
    wrong = [f"prism {line}" for text in texts(path) for line in NAMED.findall(text) if unknown(line)]
    assert not wrong


@pytest.mark.parametrize("line", ["deploy <file>", "models list", "keys ls|make", "push model.joblib --force"])
def test_a_command_or_an_option_that_does_not_exist_is_found(line: str) -> None:
    assert unknown(line)


def test_commands_are_found_in_every_kind_of_file() -> None:
    for paths in (SOURCES, PAGES, DOCUMENTS):
        assert any(NAMED.search(text) for path in paths for text in texts(path))
