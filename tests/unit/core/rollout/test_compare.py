from __future__ import annotations

from typing import Any

import pytest

from app.core.rollout.compare import Difference, DifferenceKind, differences, is_beyond_noise

NAN = float("nan")
INFINITY = float("inf")


@pytest.mark.parametrize(
    "answer",
    [
        {"predictions": [1.0, 2.0], "labels": ["a", "b"]},
        [[0.1, 0.9], [NAN, 0.0]],
        {"a": {"b": {"c": None}}},
        [INFINITY, -INFINITY],
        [],
        "text",
        True,
    ],
)
def test_equal_answers_do_not_differ(answer: Any) -> None:
    assert differences(answer, answer) == []


@pytest.mark.parametrize(
    ("left", "right"), [(1.0, 1.000009), (1, 1.0), (0.0, 9e-9), (NAN, NAN), ({"x": 1, "y": 2}, {"y": 2, "x": 1})]
)
def test_what_is_close_or_only_written_otherwise_does_not_differ(left: Any, right: Any) -> None:
    assert differences(left, right) == []


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        (1.0, 1.00002, DifferenceKind.NUMBER),
        (1.0, NAN, DifferenceKind.NUMBER),
        (1.0, INFINITY, DifferenceKind.NUMBER),
        (INFINITY, -INFINITY, DifferenceKind.NUMBER),
        (2**60, 2**60 + 1, DifferenceKind.NUMBER),
        (1.0, 10**400, DifferenceKind.NUMBER),
        ("cat", "dog", DifferenceKind.LABEL),
        (True, False, DifferenceKind.LABEL),
        (1, True, DifferenceKind.TYPE),
        (1.0, "1.0", DifferenceKind.TYPE),
        (None, 0.0, DifferenceKind.TYPE),
        ([1], {"a": 1}, DifferenceKind.TYPE),
    ],
)
def test_each_kind_of_difference_is_told(left: Any, right: Any, kind: DifferenceKind) -> None:
    assert differences({"y": [left]}, {"y": [right]}) == [Difference("y[0]", "y[]", kind, left, right)]


def test_lengths_and_members_are_compared() -> None:
    assert differences({"y": [1, 2], "old": 1}, {"y": [1], "new": 2}) == [
        Difference("old", "old", DifferenceKind.MISSING, 1),
        Difference("new", "new", DifferenceKind.EXTRA, None, 2),
        Difference("y", "y", DifferenceKind.LENGTH, 2, 1),
    ]


def test_scores_that_decide_otherwise_are_told_as_such() -> None:
    found = differences({"p": [[0.6, 0.4], [0.51, 0.49]]}, {"p": [[0.7, 0.3], [0.49, 0.51]]})
    assert [(one.path, one.kind) for one in found] == [
        *[("p[0][0]", DifferenceKind.NUMBER), ("p[0][1]", DifferenceKind.NUMBER), ("p[1]", DifferenceKind.ARGMAX)],
        *[("p[1][0]", DifferenceKind.NUMBER), ("p[1][1]", DifferenceKind.NUMBER)],
    ]
    assert (found[2].production, found[2].shadow) == (0, 1)


def test_answers_of_any_depth_and_size_are_compared() -> None:
    deep: Any = 1.0
    other: Any = 2.0
    for _ in range(5000):
        deep, other = [deep], [other]
    assert [one.kind for one in differences(deep, other)] == [DifferenceKind.NUMBER]
    assert len(differences([0.0] * 1000, [1.0] * 1000, most=7)) == 7


@pytest.mark.parametrize(
    ("counts", "beyond"),
    [
        ((10, 1000, 0, 20), True),
        ((10, 1000, 10, 1000), False),
        ((10, 1000, 11, 1000), False),
        ((14, 1000, 10, 1000), False),  # a sixth of both together
        ((16, 1000, 10, 1000), True),
        ((2, 10_000, 0, 200), False),  # 0.02 %
        ((0, 1000, 0, 20), False),
        ((0, 0, 0, 0), False),
    ],
)
def test_what_production_does_by_itself_is_no_difference(counts: tuple[int, int, int, int], beyond: bool) -> None:
    assert is_beyond_noise(*counts) is beyond
