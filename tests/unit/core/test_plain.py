"""Any value becomes one that every encoder takes."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.model import Status
from app.core.plain import plain, valid_text
from app.errors import BadInput
from app.http.problems import problem_response


@pytest.mark.parametrize(
    ("text", "expected"),
    [("åge", "åge"), ("\ud800", "�"), ("a\udcffb", "a�b"), ("\ud83d\ude00", "😀"), ("\ude00\ud83d", "��"), ("", "")],
)
def test_text_is_made_valid(text: str, expected: str) -> None:
    assert valid_text(text) == expected


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


LOOP: list[Any] = []
LOOP.append(LOOP)
VALUES = [
    "\ud800", {"\udfff": 1}, {(1, "\ud800"): [None]}, {None: 1}, {1.5: {2}}, Broken(), {Broken(): Broken}, LOOP,
    float("nan"), -float("inf"), 10**6000, -(10**30), b"\xff", object, datetime.date(2026, 1, 1), Status.LIVE, ..., 1j,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_problem_document_can_hold_any_values(value: Any) -> None:
    problem = BadInput("The column `\ud800` is odd.", hint="\udcff", value=value, nested={"of": [value]}).problem()
    told = json.loads(problem_response(problem, "id").body)
    assert told["detail"] == "The column `�` is odd."
    assert told["status"] == 400
    assert "value" in told


@given(st.recursive(st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.binary()), st.lists, max_leaves=20))
def test_json_values_stay_unchanged(value: Any) -> None:
    assert msgspec.json.encode(plain(value)) == msgspec.json.encode(value)
