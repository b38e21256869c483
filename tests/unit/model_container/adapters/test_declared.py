"""What the owner of an estimator says of its method and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from model_container.adapters.declared import check_names
from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from model_container.contract.config import PredictContract
from tests.unit.model_container.asking import ask, ask_all, predictions


def columns(*names: str, datatype: str = "FP64") -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": [-1]} for name in names]


class Own:
    """Says nothing of what it takes."""

    def predict(self, rows: Any) -> list[str]:
        return [type(rows).__name__] * len(rows)


def test_another_method_answers(classifier: LogisticRegression, matrix: Any) -> None:
    for method in ("predict_proba", "decision_function", "predict_log_proba"):
        adapter = EstimatorAdapter(classifier, PredictContract(method=method))
        assert adapter.joinable
        assert np.allclose(predictions(adapter, matrix[:3].tolist()), getattr(classifier, method)(matrix[:3]))
    assert EstimatorAdapter(classifier, PredictContract(method="predict_proba")).signature()["outputs"][0]["shape"] == [
        -1,
        3,
    ]


def test_a_method_that_is_not_there_names_those_that_are(matrix: Any) -> None:
    model = LinearRegression().fit(matrix, matrix[:, 0])
    with pytest.raises(TypeError, match="no method predict_proba; it has predict"):
        EstimatorAdapter(model, PredictContract(method="predict_proba"))
    with pytest.raises(TypeError, match="Own, which has no method score"):
        EstimatorAdapter(Own(), PredictContract(method="score"))


def test_an_unknown_method_is_not_joined_unless_its_owner_says_so(matrix: Any) -> None:
    class Odd:
        def answer(self, rows: Any) -> Any:
            return np.full(len(rows), len(rows))

    assert [
        one.json["predictions"]
        for one in ask_all(Batcher(EstimatorAdapter(Odd(), PredictContract(method="answer"))), [[[1]]] * 2)
    ] == [[1], [1]]
    joined = EstimatorAdapter(Odd(), PredictContract(method="answer", batchable=True))
    assert [one.json["predictions"] for one in ask_all(Batcher(joined), [[[1]]] * 2)] == [[2], [2]]
    model = LinearRegression().fit(matrix, matrix[:, 0])
    assert not EstimatorAdapter(model, PredictContract(batchable=False)).joinable


def test_declared_names_apply_to_a_model_without_names(matrix: Any, classifier: LogisticRegression) -> None:
    adapter = EstimatorAdapter(classifier, PredictContract(inputs=columns("a", "b", "c", "d")))
    row = dict(zip("abcd", matrix[0].tolist(), strict=True))
    wanted = classifier.predict(matrix[:1]).tolist()
    assert predictions(adapter, dict(reversed(row.items()))) == wanted
    assert predictions(adapter, {"features": [list(row.values())]}) == wanted
    assert ask(adapter, {**row, "e": 1}).ignored == ("e",)
    assert ask(adapter, {**row, "e": 1}, strict=True).json["code"] == "wrong_columns"
    assert adapter.samples()[0].keys() == row.keys()


def test_a_model_that_says_nothing_is_handed_what_its_owner_declares() -> None:
    assert predictions(EstimatorAdapter(Own()), {"features": [[1, "x"]]}) == ["ndarray"]
    assert predictions(EstimatorAdapter(Own(), PredictContract(inputs=columns("a", "b"))), {"b": 1, "a": 2}) == [
        "ndarray"
    ]
    mixed = [*columns("a"), *columns("s", datatype="BYTES")]
    assert predictions(EstimatorAdapter(Own(), PredictContract(inputs=mixed)), {"s": "x", "a": 2}) == ["DataFrame"]
    frames = EstimatorAdapter(Own(), PredictContract(inputs=columns("a", "b")), as_frames=True)
    assert predictions(frames, {"features": [[1, 2]]}) == ["DataFrame"]
    matrix = PredictContract(inputs=[{"name": "x", "datatype": "FP64", "shape": [-1, 3]}])
    assert ask(EstimatorAdapter(Own(), matrix), {"features": [[1, 2]]}).json["code"] == "wrong_width"


@pytest.mark.parametrize("names", [("a",), ("a", "b", "x"), ("age", "city", "room")])
def test_what_does_not_fit_the_model_is_refused_where_it_was_written_by_hand(
    names: tuple[str, ...], pipeline: Any, frame: pd.DataFrame
) -> None:
    call = PredictContract(inputs=columns(*names), source="model_config.yaml")
    with pytest.raises(TypeError, match=r"model_config\.yaml names the inputs a"):
        EstimatorAdapter(pipeline, call)
    lenient = EstimatorAdapter(pipeline, PredictContract(inputs=columns(*names), source="MLmodel", strict=False))
    assert lenient.names == set(frame.columns)


def test_the_models_own_names_may_be_declared_in_any_order(pipeline: Any, frame: pd.DataFrame) -> None:
    call = PredictContract(inputs=columns(*reversed(frame.columns), datatype="ANY"))
    adapter = EstimatorAdapter(pipeline, call)
    plain = EstimatorAdapter(pipeline)
    assert adapter.signature()["inputs"] == plain.signature()["inputs"]


def test_names_are_checked_for_a_model_that_knows_its_inputs() -> None:
    signature = {"inputs": columns("x", "y")}
    check_names(signature, PredictContract())
    check_names(signature, PredictContract(inputs=columns("y", "x")))
    check_names(signature, PredictContract(inputs=columns("z"), strict=False))
    with pytest.raises(TypeError, match="the inputs z, but the model takes x, y"):
        check_names(signature, PredictContract(inputs=columns("z")))
