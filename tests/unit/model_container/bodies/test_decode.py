"""Each dialect takes what its protocol says, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.bodies import csv_table
from model_container.bodies.content import Named
from model_container.bodies.problems import Problem
from model_container.contract.frames import DIALECT_CSV, DIALECT_JSON, DIALECT_MLFLOW, DIALECT_V1, Request

ROWS = [[0.1, 0.2, 0.3, 0.4], [-1.0, 2.0, 0.5, 0.0]]


def asked(model: Any, dialect: int, body: Any) -> tuple[int, Any]:
    made = body if isinstance(body, bytes) else json.dumps(body).encode()
    (answer,), _, _ = Batcher(EstimatorAdapter(model)).run([Request(made, dialect)])
    said = json.loads(answer.body)
    return answer.status, said["predictions"] if answer.status == 200 else said["code"]


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (DIALECT_V1, {"instances": ROWS}),
        (DIALECT_V1, {"inputs": ROWS}),
        (DIALECT_V1, {"parameters": {"a": 1}, "instances": ROWS}),
        (DIALECT_MLFLOW, {"instances": ROWS}),
        (DIALECT_MLFLOW, {"inputs": ROWS}),
        (DIALECT_MLFLOW, {"inputs": ROWS, "params": {"a": 1}}),
        (DIALECT_MLFLOW, {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}}),
        (DIALECT_MLFLOW, {"dataframe_records": [dict(zip("abcd", row, strict=True)) for row in ROWS]}),
    ],
)
def test_each_body_format_of_a_protocol_gives_the_native_answer(classifier: Any, dialect: int, body: Any) -> None:
    wanted = asked(classifier, DIALECT_JSON, {"features": ROWS})
    assert wanted[0] == 200
    assert asked(classifier, dialect, body) == wanted


@pytest.mark.parametrize("dialect", [DIALECT_V1, DIALECT_MLFLOW])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"features": ROWS}, "unknown_dialect"),
        (ROWS, "unknown_dialect"),
        (3, "unknown_dialect"),
        ({}, "unknown_dialect"),
        ({"instances": ROWS, "inputs": ROWS}, "unknown_dialect"),
        ({"instances": ROWS, "rows": 1}, "unknown_keys"),
        (b"", "empty_body"),
        (b"{", "not_json"),
    ],
)
def test_what_is_of_another_protocol_is_refused(classifier: Any, dialect: int, body: Any, code: str) -> None:
    status, said = asked(classifier, dialect, body)
    assert status in (400, 422)
    assert said == code


def test_v1_knows_no_dataframes(classifier: Any) -> None:
    assert asked(classifier, DIALECT_V1, {"dataframe_split": {"data": ROWS}}) == (422, "unknown_dialect")


def test_a_list_of_v2_tensors_is_no_v2_request_to_mlflow(classifier: Any) -> None:
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
    assert asked(classifier, DIALECT_MLFLOW, {"inputs": [tensor]}) == (422, "ragged_rows")


def test_missing_values_may_come_as_python_writes_them(pipeline: Any) -> None:
    frame = {"columns": ["age", "city", "rooms"], "data": [[float("nan"), "lima", 2]]}
    made = json.dumps({"dataframe_split": frame}).encode()
    assert b"NaN" in made
    frame["data"][0][0] = None
    assert asked(pipeline, DIALECT_MLFLOW, made) == asked(pipeline, DIALECT_JSON, {"dataframe_split": frame})


def test_an_infinity_is_named_where_the_model_takes_none(classifier: Any) -> None:
    assert asked(classifier, DIALECT_MLFLOW, b'{"inputs": [[Infinity, 1, 2, 3]]}') == (422, "not_a_number")


def test_a_dialect_that_is_not_known_is_refused(classifier: Any) -> None:
    assert asked(classifier, 99, {"instances": ROWS}) == (400, "unknown_dialect")


class TestCsv:
    def test_is_read_by_the_names_in_its_first_line(self, pipeline: Any) -> None:
        wanted = asked(
            pipeline, DIALECT_JSON, [{"age": 41, "city": "lima", "rooms": 2}, {"age": None, "city": None, "rooms": 1}]
        )
        assert wanted[0] == 200
        assert asked(pipeline, DIALECT_CSV, b"rooms,age,city\n2,41,lima\n1,,\n") == wanted

    def test_may_have_the_index_that_pandas_writes(self, pipeline: Any) -> None:
        frame = pd.DataFrame({"age": [41.5, np.nan], "city": ["lima", "berlin"], "rooms": [2, 1]})
        with_index, without = (
            asked(pipeline, DIALECT_CSV, frame.to_csv(index=index).encode()) for index in (True, False)
        )
        assert with_index == without
        assert with_index[0] == 200

    def test_columns_without_names_at_training_go_by_position(self, classifier: Any) -> None:
        body = "a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in ROWS)
        assert asked(classifier, DIALECT_CSV, body.encode()) == asked(classifier, DIALECT_JSON, {"features": ROWS})

    def test_a_misspelt_column_name_is_reported(self, pipeline: Any) -> None:
        assert asked(pipeline, DIALECT_CSV, b"rooms,agee,city\n2,41,lima\n") == (422, "wrong_columns")

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.floats(-1e9, 1e9)),
                st.integers(-(2**53), 2**53),
                st.text("ab ,\"'\n;é", min_size=1).filter(lambda text: text.strip() and text not in csv_table.MISSING),
                st.booleans(),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_what_pandas_writes_is_read_as_it_was(self, rows: list[tuple[Any, ...]]) -> None:
        frame = pd.DataFrame(rows, columns=["number", "count", "text", "truth"])
        content = csv_table.decode(frame.to_csv(index=False).encode(), frozenset({"text"})).content
        assert isinstance(content, Named)
        assert list(content.values) == list(frame.columns)
        assert list(zip(*content.values.values(), strict=True)) == rows

    def test_texts_that_look_like_numbers_stay_texts_where_the_model_takes_texts(self) -> None:
        content = csv_table.decode(b"zip,count\n01234,7\n", frozenset({"zip"})).content
        assert content == Named({"zip": ["01234"], "count": [7]})

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "empty_body"),
            (b"\n\n", "empty_body"),
            (b"a,b", "no_rows"),
            (b"a,a\n1,2", "wrong_columns"),
            (b"a,b\n1,2\n3", "ragged_rows"),
            (b"a,b\n1,2,3", "ragged_rows"),
            (b"a\n\xff", "not_csv"),
            (b'a\n"1', "not_csv"),
            (b'a\n"1"2', "not_csv"),
            (b"a\n" + b"1" * (1 << 21), "not_csv"),
        ],
    )
    def test_an_invalid_csv_is_rejected_with_the_reason(self, body: bytes, code: str) -> None:
        with pytest.raises(Problem) as raised:
            csv_table.decode(body, frozenset())
        assert raised.value.code == code
