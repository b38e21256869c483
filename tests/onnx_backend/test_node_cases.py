"""The ONNX project's own backend tests: through the runtime, each answers what onnxruntime answers in memory.

What is compared, and how, is in scripts/onnx_backend/asking.py.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from app.artifact.formats.onnx import read_onnx
from scripts.onnx_backend.cases import cases
from scripts.onnx_conformance import PAGE, Outcome, in_runtime, page

pytestmark = pytest.mark.slow

SHARDS = ("a", "bc", "defg", "hijklm", "nopq", "r", "stuvwxyz")
"""Shards of the cases, by the first letter of the operator."""


@cache
def outcome_of(letters: str) -> Outcome:
    return in_runtime(lambda name: initial(name) in letters)


def initial(name: str) -> str:
    return name.removeprefix("test_")[0].lower()


@pytest.mark.parametrize("letters", SHARDS)
def test_every_case_that_onnxruntime_runs_is_answered_the_same(letters: str) -> None:
    found = outcome_of(letters)
    assert not found.failed, "\n".join(found.failed)
    assert found.passed


def test_no_case_is_left_out() -> None:
    assert {initial(case.name) for case in cases()} <= set("".join(SHARDS))


def test_the_table_of_the_page_is_current() -> None:
    parts = [outcome_of(letters) for letters in SHARDS]
    together = Outcome(
        sum(part.passed for part in parts),
        sum(part.sampled for part in parts),
        [line for part in parts for line in part.failed],
        sum((part.reasons for part in parts), Counter[str]()),
    )
    assert PAGE.read_text() == page(together), "run: .venv/bin/python scripts/onnx_conformance.py"


def test_every_model_of_the_suite_is_read_before_it_is_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for case in cases():
        assert case.model is not None
        path.write_bytes(case.model.SerializeToString())
        reading = read_onnx(path)
        assert reading is not None, case.name
        graph = case.model.graph
        defaults = {one.name for one in graph.initializer}
        assert reading.inputs == tuple(one.name for one in graph.input if one.name not in defaults), case.name
        assert reading.outputs == tuple(one.name for one in graph.output), case.name
        assert reading.opsets == {one.domain or "ai.onnx": one.version for one in case.model.opset_import}, case.name
