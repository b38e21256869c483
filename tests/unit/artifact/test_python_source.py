"""Python source that is read and not run."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator

import pytest

from app.artifact.python_source import syntax_tree

NESTED = "\n".join(f"x{number} = [[[[[f({number}, -a)]]]]]" for number in range(300))


class ParsesAtItsEnd:
    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        ast.parse("a = [(1, 2), {'b': -c}]")


@pytest.fixture
def frequent_collection() -> Iterator[None]:
    usual = gc.get_threshold()
    gc.set_threshold(50, 1, 1)
    yield
    gc.set_threshold(*usual)
    gc.collect()


@pytest.mark.usefixtures("frequent_collection")
def test_source_is_read_despite_pending_garbage() -> None:
    gc.disable()
    for _ in range(50):
        ParsesAtItsEnd()
    gc.enable()
    assert len(syntax_tree(NESTED, "model.py").body) == 300
    assert gc.isenabled()
