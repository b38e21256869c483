from __future__ import annotations

import json
from typing import Any

import pytest

from model_container.bodies.content import Named, Rows
from model_container.bodies.json_dialects import decode
from model_container.bodies.problems import Problem
from model_container.contract.frames import FORM_NATIVE, FORM_V2

ROWS = [[1, 2], [3, 4]]


def content(body: Any, names: frozenset[str] = frozenset()) -> Any:
    return decode(json.dumps(body).encode(), names).content


def problem(body: bytes | Any) -> Problem:
    with pytest.raises(Problem) as raised:
        decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return raised.value


@pytest.mark.parametrize("key", ["input", "inputs", "features", "instances"])
def test_rows_come_under_any_of_the_native_keys(key: str) -> None:
    assert content({key: ROWS}) == Rows(ROWS)


def test_a_bare_list_is_rows() -> None:
    assert content(ROWS) == Rows(ROWS)


def test_an_object_without_a_known_key_is_a_row_of_features() -> None:
    assert content({"a": 1, "b": 2}) == Named({"a": 1, "b": 2})


def test_inputs_may_hold_named_values() -> None:
    assert content({"inputs": {"a": [1, 2]}}) == Named({"a": [1, 2]})


@pytest.mark.parametrize("key", ["instances", "dataframe_records", "features"])
def test_a_list_of_objects_is_read_by_name(key: str) -> None:
    assert content({key: [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}) == Named({"a": [1, 3], "b": [2, 4]})


def test_a_split_dataframe_is_read_by_name() -> None:
    body = {"dataframe_split": {"columns": ["a", "b"], "data": ROWS, "index": [0, 1]}}
    assert content(body) == Named({"a": [1, 3], "b": [2, 4]})


def test_a_split_dataframe_without_names_of_its_own_is_rows() -> None:
    assert content({"dataframe_split": {"columns": [0, 1], "data": ROWS}}) == Rows(ROWS)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], ROWS])
def test_v2_data_may_be_flat_or_nested(data: Any) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "INT64", "data": data}
    decoded = decode(json.dumps({"inputs": [tensor], "id": "7", "outputs": [{"name": "y"}]}).encode())
    assert decoded.content == Named({"x": ROWS}, {"x": (2, 2)})
    assert (decoded.form, decoded.id, decoded.outputs) == (FORM_V2, "7", ["y"])


@pytest.mark.parametrize(("shape", "data", "value"), [([], [5], 5), ([0, 3], [], []), ([2, 0], [[], []], [])])
def test_a_v2_tensor_may_be_a_scalar_or_hold_nothing(shape: list[int], data: Any, value: Any) -> None:
    assert content({"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}) == Named(
        {"x": value}, {"x": tuple(shape)}
    )


def test_inputs_is_v2_only_if_every_item_says_so() -> None:
    items = [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}, {"name": "y"}]
    assert problem({"inputs": items}).code == "ragged_rows"
    assert decode(json.dumps({"inputs": [items[1]]}).encode()).form == FORM_NATIVE


@pytest.mark.parametrize("name", ["input", "features", "instances", "dataframe_split"])
def test_a_feature_may_be_called_like_a_dialect(name: str) -> None:
    body = {name: 1, "b": 2}
    assert content(body, frozenset(body)) == Named(body)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"  \n", 400, "empty_body"),
        (b"{", 400, "not_json"),
        (b'{"a": NaN}', 400, "not_json"),
        (b"<html>", 400, "not_json"),
        (b'"\xff"', 400, "not_json"),
        (b"[" * 100_000, 400, "too_deep"),
        (b"[" * 200 + b"]" * 200, 400, "too_deep"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, 400, "too_deep"),
        (b"3", 422, "unknown_dialect"),
        (b"null", 422, "unknown_dialect"),
        (b'{"features": null}', 422, "unknown_dialect"),
        (b'{"features": []}', 422, "no_rows"),
        (b"[]", 422, "no_rows"),
        (b'{"features": [[1]], "instances": [[1]]}', 422, "unknown_dialect"),
        (b'{"features": [[1]], "parameters": {}}', 422, "unknown_keys"),
        (b'{"instances": [{"a": 1}, [1]]}', 422, "ragged_rows"),
        (b'{"instances": [{"a": 1}, {"b": 1}]}', 422, "ragged_rows"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', 422, "ragged_rows"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', 422, "wrong_columns"),
        (b'{"dataframe_split": [[1]]}', 422, "unknown_dialect"),
        (b'{"inputs": [{"name": "x", "shape": [2], "datatype": "INT64", "data": [1]}]}', 422, "wrong_shape"),
        (b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "INT64", "data": [1]}]}', 422, "wrong_shape"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "LONG", "data": [1]}]}', 422, "wrong_datatype"),
        (b'{"inputs": [{"name": "x", "shape": [0, 99999999], "datatype": "INT64", "data": []}]}', 422, "wrong_shape"),
    ],
)
def test_an_unknown_body_is_rejected_with_the_reason(body: bytes, status: int, code: str) -> None:
    raised = problem(body)
    assert (raised.status, raised.code) == (status, code)


def test_json_errors_say_where() -> None:
    assert "byte 5" in problem(b'{"a":NaN}').detail
    assert "byte 6" in problem(b'{"a":1').detail


def test_a_v2_shape_of_a_thousand_dimensions_is_refused() -> None:
    tensor = {"name": "x", "shape": [1] * 1000, "datatype": "INT64", "data": [1]}
    assert problem({"inputs": [tensor]}).code == "wrong_shape"


def test_brackets_inside_strings_are_not_nesting() -> None:
    assert content({"input": ["[" * 500]}) == Rows(["[" * 500])


def test_many_rows_are_not_nesting() -> None:
    assert content({"features": [[1]] * 500}) == Rows([[1]] * 500)


def test_unknown_keys_are_named() -> None:
    assert problem({"features": [[1]], "zip": 1}).values["unknown"] == ["zip"]
