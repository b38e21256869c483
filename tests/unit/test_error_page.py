"""Every error code is documented, and every documented code exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from app.artifact.python_source import syntax_tree
from app.errors import PrismError
from app.http.problems import MethodNotAllowed
from app.ui.routes.documentation import family

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "errors.md").read_text()


def rows(heading: str) -> dict[str, int]:
    """code → status of the table under a heading."""
    section = PAGE.split(f"## {heading}")[1].split("\n## ")[0]
    return {code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d+) \|", section, re.M)}


def test_the_page_lists_the_tree_of_errors_with_its_statuses() -> None:
    assert MethodNotAllowed in family(PrismError)
    assert rows("Server errors") == {error.code: error.status for error in family(PrismError)}


def test_the_page_lists_the_codes_of_the_runtime_and_no_others() -> None:
    said, words = set(), set()
    for path in (CHECKOUT / "model_container").rglob("*.py"):
        if path.stem.startswith("http"):  # an image run by hand; behind the gateway nobody meets its refusals
            continue
        for node in ast.walk(syntax_tree(path.read_text(), str(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                said |= {each.value for each in node.args[1:2] if isinstance(each, ast.Constant)}
    documented = rows("Prediction errors").keys()
    assert said <= documented
    assert documented <= words
