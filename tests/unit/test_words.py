"""No message, help or page speaks of the API's routes and form fields: its reader may have a page or the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artifact.python_source import syntax_tree
from tests.unit.imports_lab import ROOT, modules

ROUTE = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) /")
FIELDS = (
    *("code_files", "allow_unsafe", "allow_packages", "expected_input_json", "model_name", "model_description"),
    *("python_version", "upload_id", "create_key"),
)
FIELD = re.compile(rf"\b({'|'.join(FIELDS)})\b")
OF_PROGRAMS = {
    "app.api.uploads",  # descriptions of the form, for the page of the API
    "app.public.app",  # says to programs which routes a shared link has
    "app.share.ssh",  # the head of a request
    "app.runtime.docker.context",  # a Dockerfile's variables
    *("prism.memory", "prism.definition_source"),  # `code_files` is the SDK's own word
}
SENT_BY_HAND = "With curl: "  # of a body that only a program's author can get wrong

PAGES = sorted((ROOT / "app" / "ui" / "templates").rglob("*.html"))


def messages(tree: ast.Module) -> Iterator[str]:
    """The texts of a module that have spaces, but for docstrings; `VALUE` in the place of what is not known yet."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements | parts:
            text = node.value
        if " " in text and not text.startswith(SENT_BY_HAND):
            yield text


def visible(page: str) -> str:
    """What of a template a reader sees: without tags, attributes and the template's own statements."""
    return re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", page, flags=re.S)


@pytest.mark.parametrize("name", sorted(set(modules()) - OF_PROGRAMS))
def test_no_message_names_a_route_or_a_form_field(name: str) -> None:
    assert not [text for text in messages(modules()[name]) if ROUTE.search(text) or FIELD.search(text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_a_route_or_a_form_field(path: Path) -> None:
    text = visible(path.read_text())
    assert not [*ROUTE.findall(text), *FIELD.findall(text)]


def test_a_message_of_any_kind_is_found() -> None:
    source = '"""POST / in a docstring."""\nraise BadInput(f"Start {name} with POST /models/{name}/start.", hint="no_spaces")'
    assert list(messages(syntax_tree(source, "source"))) == ["Start VALUE with POST /models/VALUE/start."]
