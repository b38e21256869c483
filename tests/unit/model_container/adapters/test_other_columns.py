"""Requests with other columns than a model has: those that it drops are left out, those that it does not know are sent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.bodies.encode import beside_ignored
from model_container.contract.frames import (
    DIALECT_CSV,
    DIALECT_V2_BINARY,
    FORM_CSV,
    FORM_NATIVE,
    JSON_LENGTH,
    OPTION_CSV,
    Answer,
    FrameError,
    Request,
    without_ignored,
)
from model_container.server.http_answers import whole_answer
from tests.unit.model_container.asking import ask, ask_all

FRAME = pd.DataFrame(
    {"id": range(40), "age": np.arange(40.0), "city": ["oslo", "rome"] * 20, "when": pd.date_range("2024", periods=40)}
)
PARTS = [("numbers", SimpleImputer(), ["age"]), ("words", OneHotEncoder(), ["city"])]


@pytest.fixture(scope="module")
def dropping() -> Any:
    """A pipeline that drops two of its four columns."""
    return make_pipeline(ColumnTransformer(PARTS), LogisticRegression()).fit(FRAME, FRAME["age"] > 20)


@pytest.fixture(scope="module")
def target(dropping: Any) -> Batcher:
    return Batcher(EstimatorAdapter(dropping))


ROW = {"age": 30, "city": "rome"}


def test_columns_that_the_model_drops_may_be_absent(target: Batcher, dropping: Any) -> None:
    whole = {"id": 1, **ROW, "when": "2024-01-01"}
    wanted = dropping.predict(FRAME.iloc[30:31].assign(age=30.0, city="rome")).tolist()
    for body in (ROW, whole, {"id": None, **ROW}, [ROW], {"age": [30], "city": ["rome"]}, {"instances": [whole]}):
        reply = ask(target, body)
        assert (reply.json["predictions"], reply.ignored) == (wanted, ())
    assert ask(target, [ROW, {**ROW, "age": 1}]).json["predictions"] == [True, False]


def test_the_signature_says_so_and_the_sample_leaves_them_out(dropping: Any) -> None:
    adapter = EstimatorAdapter(dropping)
    optional = {port["name"] for port in adapter.signature()["inputs"] if port["optional"]}
    assert optional == {"id", "when"}
    assert all(sample.keys() == ROW.keys() for sample in adapter.samples())


def test_a_column_that_an_earlier_step_needs_is_not_dropped() -> None:
    frame = FRAME[["id", "age"]]
    kept = ColumnTransformer([("numbers", "passthrough", ["age"])])
    imputer = SimpleImputer().set_output(transform="pandas")
    adapter = EstimatorAdapter(make_pipeline(imputer, kept, LogisticRegression()).fit(frame, frame["age"] > 20))
    assert ask(adapter, {"age": 30}).json["missing"] == ["id"]


def test_other_columns_are_ignored_and_named(target: Batcher) -> None:
    assert ask(target, {**ROW, "z": 1, "ä": [2]}).ignored == ("z", "ä")
    assert ask(target, [{**ROW, "z": 1}, {**ROW, "z": 2}]).ignored == ("z",)
    replies = ask_all(target, [{**ROW, "z": 1}, ROW, {**ROW, "y": 1, "x": 1}])
    assert [reply.ignored for reply in replies] == [("z",), (), ("y", "x")]
    assert {tuple(reply.json["predictions"]) for reply in replies} == {(True,)}


def test_a_csv_table_keeps_its_other_columns_beside_the_results(target: Batcher) -> None:
    requests = [Request(b"order,age,city\n7,30,rome\n8,1,oslo\n", DIALECT_CSV, options) for options in (OPTION_CSV, 0)]
    (table, plain), _, _ = target.run(requests)
    assert without_ignored(table.body) == (
        b"order,age,city,prediction\n7,30,rome,true\n8,1,oslo,false\n",
        FORM_CSV,
        '["order"]',
    )
    assert without_ignored(plain.body)[1:] == (FORM_NATIVE, '["order"]')


def test_strict_refuses_other_columns(target: Batcher) -> None:
    refused = ask(target, {**ROW, "z": 1}, strict=True)
    assert (refused.status, refused.json["unexpected"], refused.json["missing"]) == (422, ["z"], [])
    assert ask(target, ROW, strict=True).status == 200


def test_a_misspelt_column_is_never_ignored(target: Batcher) -> None:
    refused = ask(target, {"agee": 30, "city": "rome"})
    assert (refused.status, refused.json["missing"], refused.json["unexpected"]) == (422, ["age"], ["agee"])
    assert "'age' instead of 'agee'" in refused.json["hint"]


def test_tensors_of_v2_have_no_others(target: Batcher) -> None:
    tensors = [
        {"name": name, "shape": [1], "datatype": datatype, "data": [value]}
        for name, datatype, value in (("age", "FP64", 30), ("city", "BYTES", "rome"), ("z", "FP64", 1))
    ]
    for count, status in ((2, 200), (3, 422)):
        body = json.dumps({"inputs": tensors[:count]}).encode()
        (answer,), _, _ = target.run([Request(JSON_LENGTH.pack(len(body)) + body, DIALECT_V2_BINARY)])
        assert answer.status == status


def test_lightgbm_is_asked_by_the_names_before_it_replaced_their_spaces(dropping: Any) -> None:
    lightgbm = type("LGBMRegressor", (LogisticRegression,), {"__module__": "lightgbm.sklearn"})
    frame = pd.DataFrame({"the_age": np.arange(20.0), "b": np.arange(20.0) % 3})
    target = Batcher(EstimatorAdapter(lightgbm().fit(frame, frame["the_age"] > 10)))
    for body in ({"the age": 15, "b": 1}, {"the_age": 15, "b": 1}, [{"b": 1, "the age": 15}]):
        assert ask(target, body).json["predictions"] == [True]
    assert ask(target, {"the age": 1, "the_age": 15, "b": 1}).ignored == ("the age",)
    assert ask(Batcher(EstimatorAdapter(dropping)), {"age ": 1, "city": "rome"}).status == 422


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x", "\x7f", "é", "\ud800", "x" * 5000, ""])
def test_the_list_of_ignored_columns_is_short_printable_ascii(name: str) -> None:
    answer = beside_ignored(Answer(b"{}"), [name, *(f"column {index}" for index in range(10_000))])
    body, form, ignored = without_ignored(answer.body)
    assert (body, form) == (b"{}", FORM_NATIVE)
    assert ignored.isascii()
    assert len(ignored) <= 1002
    listed = json.loads(ignored)
    assert int(listed[-1].split()[1]) + len(listed) - 1 == 10_001


def test_an_image_without_a_gateway_names_them_in_the_same_header() -> None:
    response = whole_answer(beside_ignored(Answer(b'{"predictions":[1]}'), ["z"]))
    assert (response.body, dict(response.headers)) == (b'{"predictions":[1]}', {"x-ignored-columns": '["z"]'})
    assert not whole_answer(Answer(b"{}")).headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff\0\0[]{}",
        b"\x04\0\0\0\0\0[\r\n]{}",
        b"\x02\0\0\0\0\0{}{}",
        b"\x02\0\0\0\1\0[]{}",
        b"\x02\0\0\0\2\0[]{}",
    ],
)
def test_a_replica_cannot_write_headers(body: bytes) -> None:
    with pytest.raises(FrameError):
        without_ignored(body)
