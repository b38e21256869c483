"""How requests are joined and split, on models that show it; test_every_adapter.py holds every adapter to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_container.batch import Batcher
from model_container.contract.frames import FORM_NATIVE, FORM_PROBLEM
from tests.unit.model_container.asking import Reply, ask, ask_all, batcher

BODY = {"features": [[0.1, 0.2, 0.3, 0.4]]}

numbers = st.one_of(st.floats(-5, 5), st.integers(-5, 5))
bad = st.sampled_from([b"", b"{", b"[[1e999, 1, 1, 1]]", {"features": [["x", 1, 1, 1]]}, {"features": [[1]]}, {"z": 1}])
rows = st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=3)
matrices = st.one_of(rows.map(lambda some: {"features": some}), rows.map(lambda some: {"instances": some}), bad)
people = st.fixed_dictionaries(
    {
        "age": st.one_of(st.none(), st.integers(18, 80), st.floats(18, 80)),
        "city": st.sampled_from(["berlin", "lagos", "lima", None, "atlantis"]),
        "rooms": st.sampled_from([1, 2, 3, 2.0, 9]),
    }
)
records = st.one_of(people, st.lists(people, min_size=1, max_size=3).map(lambda some: {"dataframe_records": some}), bad)


def assert_same(batched: list[Reply], alone: list[Reply]) -> None:
    """Equal, but for the last bits: BLAS multiplies one row by another routine than many."""
    for one, other in zip(batched, alone, strict=True):
        assert (one.status, one.form) == (other.status, other.form)
        if one.form == FORM_PROBLEM:
            assert one.json == other.json
            continue
        assert one.json.keys() == other.json.keys()
        for key in one.json:
            mine, theirs = np.array(one.json[key]), np.array(other.json[key])
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(mine, theirs)


def assert_batched_equals_unbatched(target: Batcher, bodies: list[Any], probabilities: bool = False) -> None:
    batched = ask_all(target, bodies, probabilities)
    assert_same(batched, [ask(target, body, probabilities) for body in bodies])


@settings(max_examples=40, deadline=None)
@given(bodies=st.lists(records, min_size=1, max_size=12), probabilities=st.booleans())
def test_batched_equals_unbatched_for_named_columns_of_mixed_types(
    pipeline: Any, bodies: list[Any], probabilities: bool
) -> None:
    assert_batched_equals_unbatched(batcher(pipeline), bodies, probabilities)


@settings(max_examples=40, deadline=None)
@given(bodies=st.lists(matrices, min_size=1, max_size=12))
def test_batched_equals_unbatched_for_several_targets(regressor: Any, bodies: list[Any]) -> None:
    assert_batched_equals_unbatched(batcher(regressor), bodies)


def test_a_request_that_only_the_model_rejects_fails_alone(classifier: Any) -> None:
    bodies: list[Any] = [BODY] * 32
    bodies[0] = bodies[31] = {"features": [[None, 1, 2, 3]]}
    replies = ask_all(batcher(classifier), bodies)
    assert [reply.status for reply in replies] == [422] + [200] * 30 + [422]
    assert replies[0].json["code"] == "prediction_failed"
    assert "missing values" in replies[0].json["hint"]


class Recorder:
    """Remembers how many rows each call had."""

    n_features_in_ = 1

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, rows: Any) -> Any:
        self.calls.append(len(rows))
        return self.answer(np.asarray(rows, dtype=float))

    def answer(self, rows: Any) -> Any:
        return rows[:, 0] * 2


class DropsRows(Recorder):
    def answer(self, rows: Any) -> Any:
        return rows[rows[:, 0] >= 0, 0]


class AnswersTwo(Recorder):
    def answer(self, rows: Any) -> Any:
        return np.array([1.0, 2.0])


class Explodes(Recorder):
    def answer(self, rows: Any) -> Any:
        if (rows == 13).any():
            raise ZeroDivisionError("thirteen")
        return rows[:, 0]


class Exits(Recorder):
    def answer(self, rows: Any) -> Any:
        raise SystemExit(1)


def test_compatible_requests_share_one_call() -> None:
    model = Recorder()
    replies = ask_all(batcher(model), [{"features": [[1], [2]]}, {"feature1": 3}, {"input": 4}, [[5]]])
    assert [reply.json["predictions"] for reply in replies] == [[2, 4], [6], [8], [10]]
    assert model.calls == [5]


def test_rows_of_different_structure_never_mix() -> None:
    model = Recorder()
    replies = ask_all(batcher(model), [[[1]], [["2"]], [[3]], [[2.5]]])
    assert [reply.json["predictions"] for reply in replies] == [[2], [4], [6], [5]]
    assert sorted(model.calls) == [1, 1, 2]


def test_after_an_output_of_the_wrong_length_requests_are_run_separately(capsys: Any) -> None:
    replies = ask_all(batcher(DropsRows()), [[[1]], [[-2]], [[3]]])
    assert [reply.status for reply in replies] == [200, 500, 200]
    assert replies[1].json["code"] == "wrong_output_length"
    assert (replies[1].json["expected"], replies[1].json["got"]) == (1, 0)
    assert [replies[0].json["predictions"], replies[2].json["predictions"]] == [[1], [3]]
    assert "no longer joined" in capsys.readouterr().err


def test_a_length_that_fits_by_accident_is_not_split_among_requests() -> None:
    replies = ask_all(batcher(AnswersTwo()), [[[1]], [[2]], [[3]]])
    assert [reply.status for reply in replies] == [500, 500, 500]


def test_after_a_wrong_length_requests_are_no_longer_joined() -> None:
    model = DropsRows()
    target = batcher(model)
    ask_all(target, [[[1]], [[-2]]])
    model.calls.clear()
    ask_all(target, [[[1]], [[2]]])
    assert model.calls == [1, 1]


def test_a_failing_batch_is_halved_until_only_the_guilty_request_fails(capsys: Any) -> None:
    model = Explodes()
    replies = ask_all(batcher(model), [[[number]] for number in range(32)])
    assert [index for index, reply in enumerate(replies) if reply.status != 200] == [13]
    assert replies[13].json["code"] == "model_error"
    assert replies[13].json["exception"] == "ZeroDivisionError"
    assert "Traceback" not in str(replies[13].json)
    assert "Traceback" in capsys.readouterr().err
    assert len(model.calls) < 12


def test_a_model_that_exits_fails_its_request_only() -> None:
    assert ask(batcher(Exits()), [[1]]).status == 500


def test_a_plain_function_is_never_given_joined_rows() -> None:
    replies = ask_all(batcher(lambda rows: rows - rows.mean()), [[[1.0, 3.0]], [[10.0, 30.0]]])
    assert [reply.json["predictions"] for reply in replies] == [[[-1, 1]], [[-10, 10]]]


def test_an_empty_batch_has_no_answers(classifier: Any) -> None:
    assert ask_all(batcher(classifier), []) == []


def test_nan_and_infinities_are_written_null() -> None:
    reply = ask(batcher(lambda rows: np.array([np.nan, np.inf, -np.inf, 1.0])), [[1], [2], [3], [4]])
    assert reply == Reply(200, FORM_NATIVE, {"predictions": [None, None, None, 1.0]})
