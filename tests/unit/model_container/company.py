"""One batch of requests beside each of them alone, for whatever answers batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st

from model_container.contract.frames import FORM_PROBLEM, OPTION_PROBABILITIES, Answer, Request
from tests.unit.model_container.kinds import WIDTH, Body, Row, as_json

COMPANY = 32
"""Requests of the largest batch."""

numbers = st.one_of(st.floats(-5, 5, width=32), st.integers(-5, 5))
row = st.lists(numbers, min_size=WIDTH, max_size=WIDTH)
rows = st.lists(row, min_size=1, max_size=6)


class Answering(Protocol):
    """A batcher, or a replica that has one."""

    def run(self, requests: Sequence[Request]) -> tuple[list[Answer], int, int]: ...


Make = Callable[[], Answering]


def bodies_of(body: Body, bad: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """1 to 32 requests of 1 to 6 rows each, wrong ones among them."""
    some = rows.map(body)
    return st.lists(st.one_of(some, some, some, st.sampled_from(list(bad))), min_size=1, max_size=COMPANY)


def asked(target: Answering, bodies: Sequence[Any], probabilities: bool = False) -> list[Answer]:
    options = OPTION_PROBABILITIES if probabilities else 0
    answers = [Answer(*one) for one in target.run([Request(as_json(body), options=options) for body in bodies])[0]]
    assert len(answers) == len(bodies)
    return answers


def assert_same_in_company(make: Make, bodies: Sequence[Any], tolerance: float, probabilities: bool = False) -> None:
    """make: a target that has seen nothing yet, for one that met a wrong length joins no more."""
    together = asked(make(), bodies, probabilities)
    alone = [asked(make(), [body], probabilities)[0] for body in bodies]
    for body, one, other in zip(bodies, together, alone, strict=True):
        assert_equal(one, other, tolerance, body)


def assert_equal(one: Answer, other: Answer, tolerance: float, body: Any) -> None:
    if one == other:
        return
    assert (one.status, one.form) == (other.status, other.form), (body, one, other)
    assert tolerance, (body, one, other)
    assert one.form != FORM_PROBLEM, (body, one, other)
    mine, theirs = json.loads(one.body), json.loads(other.body)
    assert mine.keys() == theirs.keys()
    for key in mine:
        assert_near(np.array(mine[key]), np.array(theirs[key]), tolerance)


def assert_near(mine: Any, theirs: Any, tolerance: float) -> None:
    if mine.dtype.kind == "f":
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(mine, theirs)


def assert_fails_alone(make: Make, good: Sequence[Any], bad: Any, position: int, tolerance: float) -> None:
    """good: 31 requests, between which the bad one is put."""
    assert len(good) == COMPANY - 1
    bodies = [*good[:position], bad, *good[position:]]
    answers = asked(make(), bodies)
    assert 400 <= answers[position].status < 500, (bad, answers[position])
    assert answers[position].form == FORM_PROBLEM
    assert [index for index, one in enumerate(answers) if one.status != 200] == [position], bad
    target = make()
    for body, one in zip(bodies, answers, strict=True):
        assert_equal(one, asked(target, [body])[0], tolerance, body)


def assert_length_is_checked(make: Make, body: Body, requests: Sequence[Sequence[Row]]) -> None:
    """requests: their rows. The model forgets those that begin below zero: whose rows these are is told so, and all
    others get their own answers."""
    bodies = [body(list(some)) for some in requests]
    for some, one in zip(requests, asked(make(), bodies), strict=True):
        if all(first >= 0 for first, *_ in some):
            assert one.status == 200, one
        else:
            told = json.loads(one.body)
            assert (one.status, one.form, told["code"]) == (500, FORM_PROBLEM, "wrong_output_length"), one
            assert (told["expected"], told["got"]) == (len(some), sum(first >= 0 for first, *_ in some))
    assert_same_in_company(make, bodies, tolerance=0)
