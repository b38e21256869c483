"""Columns of dates, truth values and whole numbers that may be missing, as their owner declares them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.contract.config import PredictContract
from model_container.contract.frames import DIALECT_CSV, Request
from tests.unit.model_container.asking import ask, predictions

INPUTS = [
    {"name": name, "datatype": datatype, "shape": [-1]}
    for name, datatype in (("when", "DATETIME"), ("member", "BOOL"), ("visits", "INT64"))
]


class Seen:
    """Answers with the data type of the first column, and the values."""

    def predict(self, frame: Any) -> list[Any]:
        return [[str(frame["when"].dtype), *map(str, row)] for row in frame.itertuples(index=False)]


ADAPTER = EstimatorAdapter(Seen(), PredictContract(inputs=INPUTS))
ROW = {"when": "2024-12-31", "member": True, "visits": 3}


@pytest.mark.parametrize(
    ("when", "seen"),
    [
        ("2024-12-31", "2024-12-31 00:00:00"),
        ("2024-12-31T18:30:05.25", "2024-12-31 18:30:05.250000"),
        ("2024-12-31T18:30:00Z", "2024-12-31 18:30:00"),
        ("2024-12-31T18:30:00+02:00", "2024-12-31 16:30:00"),
        (None, "NaT"),
    ],
)
def test_a_date_is_text_in_iso_8601_or_null(when: Any, seen: str) -> None:
    for body in ({**ROW, "when": when}, {"features": [[when, True, 3]]}):
        assert predictions(ADAPTER, body) == [["datetime64[ns]", seen, "True", "3.0"]]


@pytest.mark.parametrize(
    ("when", "code"),
    [
        ("31.12.2024", "not_a_date"),
        ("", "not_a_date"),
        (20241231, "not_a_date"),
        (True, "not_a_date"),
        ("2024-02-30", "not_a_date"),
        ("0001-01-01", "number_out_of_range"),
        ("0001-01-01T00:00:00+12:00", "number_out_of_range"),
        ("9999-12-31", "number_out_of_range"),
    ],
)
def test_what_is_no_date_is_named_with_its_place(when: Any, code: str) -> None:
    reply = ask(ADAPTER, [ROW, {**ROW, "when": when}])
    assert (reply.status, reply.json["code"], reply.json["row"], reply.json["column"]) == (422, code, 1, "when")


def test_whole_numbers_and_truth_values_may_be_missing() -> None:
    ((_, _, member, visits),) = predictions(ADAPTER, {**ROW, "member": None, "visits": None})
    assert (member, visits) == ("nan", "nan")
    assert ask(ADAPTER, {**ROW, "visits": "3"}).status == 422


def test_the_sample_has_a_value_of_each_type() -> None:
    sample = ADAPTER.samples()[0]
    assert sample == {"when": "2024-01-01", "member": True, "visits": 1}
    assert type(sample["visits"]) is int
    assert predictions(ADAPTER, sample)[0][1] == str(np.datetime64("2024-01-01", "us")).replace("T", " ")[:19]


def test_a_date_in_csv_is_read_as_text() -> None:
    body = b"when,member,visits\n2024-12-31,true,3\n,true,3\n"
    (answer,), _, _ = Batcher(ADAPTER).run([Request(body, DIALECT_CSV)])
    assert [row[1] for row in json.loads(answer.body)["predictions"]] == ["2024-12-31 00:00:00", "NaT"]
