"""Null where a model reads text: refused with its place, in every dialect, and never the model's own failure."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.ports import Ports
from model_container.batch import Batcher
from model_container.bodies.content import Named
from model_container.bodies.problems import Problem
from model_container.contract.frames import (
    DIALECT_CSV,
    DIALECT_GENERATE,
    DIALECT_JSON,
    DIALECT_MLFLOW,
    DIALECT_V1,
    DIALECT_V2_BINARY,
    JSON_LENGTH,
    Request,
)
from tests.unit.model_container.asking import ask, predictions
from tests.unit.model_container.graphs import adapter_of, graph

TEXTS = ["good day", "bad day", "good night", "bad night"]
LIKED = [1, 0, 1, 0]


@pytest.fixture(scope="module")
def reader() -> Batcher:
    """A model that reads one text a row."""
    return Batcher(EstimatorAdapter(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, LIKED)))


@pytest.fixture(scope="module")
def mixed() -> Batcher:
    """A text, a number and a category, of which the last two may be missing."""
    frame = pd.DataFrame({"review": TEXTS, "stars": [5.0, 1, None, 2], "city": ["rome", None, "oslo", "oslo"]})
    parts = [
        ("review", TfidfVectorizer(), "review"),
        ("stars", SimpleImputer(), ["stars"]),
        (
            "city",
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
            ["city"],
        ),
    ]
    return Batcher(EstimatorAdapter(make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(frame, LIKED)))


def told(target: Batcher, body: Any, dialect: int = DIALECT_JSON) -> tuple[int, Any]:
    made = body if isinstance(body, bytes) else json.dumps(body).encode()
    (answer,), _, _ = target.run([Request(made, dialect)])
    return answer.status, json.loads(answer.body)


def v2(*names_and_data: tuple[str, list[Any]]) -> dict[str, Any]:
    tensors = [{"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data} for name, data in names_and_data]
    return {"inputs": tensors}


def framed(body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    return JSON_LENGTH.pack(len(text)) + text


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (DIALECT_JSON, {"input": ["a", None]}),
        (DIALECT_JSON, {"text": ["a", None]}),
        (DIALECT_JSON, [["a"], [None]]),
        (DIALECT_JSON, v2(("text", ["a", None]))),
        (DIALECT_V2_BINARY, framed(v2(("text", ["a", None])))),
        (DIALECT_V1, {"instances": ["a", None]}),
        (DIALECT_MLFLOW, {"dataframe_split": {"columns": ["text"], "data": [["a"], [None]]}}),
        (DIALECT_MLFLOW, {"dataframe_records": [{"text": "a"}, {"text": None}]}),
        (DIALECT_MLFLOW, {"inputs": ["a", None]}),
        (DIALECT_GENERATE, {"text": ["a", None]}),
    ],
)
def test_null_in_a_text_is_refused_with_its_row_and_column(reader: Batcher, dialect: int, body: Any) -> None:
    status, problem = told(reader, body, dialect)
    assert (status, problem["code"], problem["row"], problem["column"]) == (422, "missing_value", 1, "text")
    assert "empty string" in problem["hint"]


def test_an_empty_cell_of_a_table_is_an_empty_text(reader: Batcher, mixed: Batcher) -> None:
    """A cell that pandas reads as missing is a text like any other."""
    assert told(reader, b'text\ngood\n""\nNA\n', DIALECT_CSV)[0] == 200
    assert told(mixed, b"review,stars,city\n,,\ngood,3,rome\n", DIALECT_CSV)[0] == 200


def test_numbers_and_categories_beside_a_text_may_be_missing(mixed: Batcher) -> None:
    assert predictions(mixed, {"review": ["good", ""], "stars": [None, 1], "city": [None, "oslo"]}) == [1, 0]
    reply = ask(mixed, {"review": ["good", None], "stars": [1, 1], "city": ["oslo", "oslo"]})
    assert (reply.status, reply.json["row"], reply.json["column"]) == (422, 1, "review")


def test_null_reaches_an_imputer_in_front_of_a_text() -> None:
    class FilledTexts(TfidfVectorizer):  # type: ignore[misc]
        """Reads a column of a table as texts."""

        def transform(self, raw_documents: Any) -> Any:
            return super().transform([row[0] for row in raw_documents])

        def fit_transform(self, raw_documents: Any, y: Any = None) -> Any:
            return super().fit_transform([row[0] for row in raw_documents], y)

    filled = make_pipeline(SimpleImputer(strategy="constant", fill_value="good"), FilledTexts(), LogisticRegression())
    frame = pd.DataFrame({"review": TEXTS})
    assert predictions(EstimatorAdapter(filled.fit(frame, LIKED)), {"review": ["bad", None]}) == [0, 1]


def test_a_graph_of_strings_is_not_given_the_word_none() -> None:
    same = graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.STRING, ("n", 1))],
        [("y", TensorProto.STRING, ("n", 1))],
    )
    adapter = adapter_of(same)
    assert ask(adapter, {"x": ["a", ""]}).status == 200
    assert ask(adapter, {"x": ["a", None]}).json["code"] == "missing_value"


@pytest.mark.parametrize("shape", [[-1], [-1, 2]])
def test_a_declared_text_holds_no_null_and_other_declared_inputs_do_as_before(shape: list[int]) -> None:
    texts = [["a", None]] if len(shape) == 2 else ["a", None]
    with pytest.raises(Problem) as raised:
        Ports([{"name": "t", "datatype": "BYTES", "shape": shape}]).arrays(Named({"t": texts}))
    assert (raised.value.status, raised.value.code) == (422, "missing_value")
    numbers = [[1, None]] if len(shape) == 2 else [1, None]
    (array,) = Ports([{"name": "t", "datatype": "FP64", "shape": shape}]).arrays(Named({"t": numbers}))
    assert array.ravel()[0] == 1
    assert array.ravel()[1] != array.ravel()[1], "NaN"
