from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN, KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, OrdinalEncoder, StandardScaler

from model_container.adapters.estimator import EstimatorAdapter
from model_container.batch import Batcher
from tests.unit.model_container.asking import ask, ask_all, batcher, predictions


def rows(matrix: Any, count: int = 5) -> Any:
    return {"features": matrix[:count].tolist()}


def assert_serves(model: Any, matrix: Any) -> None:
    expected = model.predict(matrix[:5]).tolist()
    assert predictions(batcher(model), rows(matrix)) == expected


def test_labels_may_be_strings(classifier: Any, matrix: Any) -> None:
    assert_serves(classifier, matrix)


def test_several_targets_are_rows(regressor: Any, matrix: Any) -> None:
    served = predictions(batcher(regressor), rows(matrix))
    np.testing.assert_allclose(served, regressor.predict(matrix[:5]))


def test_clusterers_and_outlier_detectors_predict(matrix: Any) -> None:
    assert_serves(KMeans(2, n_init=1, random_state=0).fit(matrix), matrix)
    assert_serves(IsolationForest(n_estimators=5, random_state=0).fit(matrix), matrix)


def test_what_only_fits_and_predicts_answers_each_request_on_its_own(matrix: Any) -> None:
    adapter = EstimatorAdapter(DBSCAN())
    assert not adapter.joinable
    assert predictions(adapter, rows(matrix)) == DBSCAN().fit_predict(matrix[:5]).tolist()


def test_what_only_transforms_answers_with_what_it_makes(matrix: Any) -> None:
    scaler = StandardScaler().fit(matrix)
    np.testing.assert_allclose(predictions(batcher(scaler), rows(matrix)), scaler.transform(matrix[:5]))


def test_sparse_outputs_are_written_out() -> None:
    encoder = OneHotEncoder().fit([["a"], ["b"]])
    assert predictions(batcher(encoder), {"features": [["b"], ["a"]]}) == [[0, 1], [1, 0]]
    assert predictions(batcher(lambda rows: sparse.csr_matrix(np.eye(2))), [[1], [2]]) == [[1, 0], [0, 1]]


def test_a_dataframe_is_answered_as_objects(matrix: Any) -> None:
    model = batcher(lambda rows: pd.DataFrame({"low": rows[:, 0], "high": rows[:, 1]}))
    assert predictions(model, [[1.5, 2.5], [3.5, 4.5]]) == [{"low": 1.5, "high": 2.5}, {"low": 3.5, "high": 4.5}]


def test_one_value_for_one_row_is_one_prediction() -> None:
    assert predictions(batcher(lambda rows: 7.5), [[1]]) == [7.5]
    assert ask(batcher(lambda rows: 7.5), [[1], [2]]).json["code"] == "wrong_output_length"


def test_lists_of_objects_pass_as_they_are() -> None:
    model = batcher(lambda rows: [{"label": "a", "score": np.float32(0.5)} for _ in rows])
    assert predictions(model, [[1], [2]]) == [{"label": "a", "score": 0.5}] * 2


def test_encoders_of_labels_take_a_flat_column() -> None:
    assert predictions(batcher(LabelEncoder().fit(["x", "y", "z"])), {"input": ["z", "x"]}) == [2, 0]


def test_an_object_that_cannot_predict_says_so() -> None:
    with pytest.raises(TypeError, match="holds a dict with the keys 'model', which has no predict"):
        EstimatorAdapter({"model": 1})


def test_probabilities_come_with_their_classes(classifier: Any, matrix: Any) -> None:
    reply = ask(batcher(classifier), rows(matrix), probabilities=True)
    np.testing.assert_allclose(reply.json["probabilities"], classifier.predict_proba(matrix[:5]))
    assert reply.json["classes"] == ["maybe", "no", "yes"]


def test_a_model_without_probabilities_says_which_models_have_them(regressor: Any, matrix: Any) -> None:
    reply = ask(batcher(regressor), rows(matrix), probabilities=True)
    assert (reply.status, reply.json["code"]) == (422, "no_probabilities")
    assert "predict_proba" in reply.json["hint"]


def test_probabilities_of_several_labels_are_a_list_a_row(matrix: Any) -> None:
    targets = (matrix[:, :2] > 0).astype(int)
    model = MultiOutputClassifier(LogisticRegression()).fit(matrix, targets)
    reply = ask(batcher(model), rows(matrix, 3), probabilities=True)
    expected = np.stack(model.predict_proba(matrix[:3]), axis=1)
    np.testing.assert_allclose(reply.json["probabilities"], expected)
    assert reply.json["classes"] == [[0, 1], [0, 1]]
    assert predictions(batcher(KNeighborsClassifier().fit(matrix, targets)), rows(matrix, 3))


def test_named_columns_may_come_in_any_order_and_dialect(pipeline: Any) -> None:
    model = batcher(pipeline)
    row = {"rooms": 3, "city": "lima", "age": 30}
    tensors = [
        {"name": "rooms", "shape": [1], "datatype": "INT64", "data": [3]},
        {"name": "age", "shape": [1, 1], "datatype": "FP32", "data": [30]},
        {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["lima"]},
    ]
    bodies: list[Any] = [
        row,
        {"inputs": row},
        {"instances": [row]},
        {"dataframe_records": [row]},
        {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
        {"features": [[30, "lima", 3]]},
        [30, "lima", 3],
        {name: [value] for name, value in row.items()},
    ]
    assert [predictions(model, body) for body in bodies] == [["big"]] * len(bodies)
    v2 = ask(model, {"inputs": tensors, "id": "a"})
    output = {"name": "predictions", "datatype": "BYTES", "shape": [1], "data": ["big"]}
    assert v2.json == {"id": "a", "outputs": [output]}


def test_columns_of_several_rows_are_several_predictions(pipeline: Any) -> None:
    body = {"age": [30, None], "city": ["lima", None], "rooms": [3, 1]}
    assert predictions(batcher(pipeline), body) == ["big", "small"]


@pytest.mark.parametrize(
    ("body", "code", "telling"),
    [
        ({"age": 30, "citi": "lima", "rooms": 1}, "wrong_columns", "Did you mean 'city' instead of 'citi'?"),
        ({"age": 30, "city": "lima"}, "wrong_columns", 'Missing: "rooms"'),
        ({"age": 30, "city": "lima", "room": 1, "z": 0}, "wrong_columns", 'Unexpected: "room", "z"'),
        ({"age": "30", "city": "lima", "rooms": 1}, "not_a_number", "column 'age' holds \"30\""),
        ({"age": 30, "city": 7, "rooms": 1}, "not_a_string", "column 'city' holds 7"),
        ({"age": [30, 31], "city": "lima", "rooms": 1}, "ragged_rows", "column 'age' holds a list"),
        ({"age": [30, 31], "city": ["lima"], "rooms": [1]}, "ragged_rows", "differ in length"),
        ({"age": [], "city": [], "rooms": []}, "no_rows", "no rows"),
        ({"age": 30, "city": "atlantis", "rooms": 1}, "prediction_failed", "unknown categories ['atlantis']"),
        ({"age": 10**400, "city": "lima", "rooms": 1}, "number_out_of_range", "column 'age'"),
        (b'{"age": 1e400, "city": "lima", "rooms": 1}', "number_out_of_range", "column 'age'"),
        ({"features": [[30, "lima", 1, 5]]}, "wrong_width", "takes 3"),
        ({"features": [[30, "lima", 1], [30, "lima"]]}, "wrong_width", "Row 1"),
        ({"features": [[30, ["lima"], 1]]}, "wrong_shape", "lists where single values are expected"),
        ({"age": 30, "city": {"a": 1}, "rooms": 1}, "not_a_value", "column 'city'"),
    ],
)
def test_what_does_not_fit_the_columns_is_named(pipeline: Any, body: Any, code: str, telling: str) -> None:
    reply = ask(batcher(pipeline), body)
    assert (reply.status, reply.json["code"]) == (422, code)
    assert telling in f"{reply.json['detail']} {reply.json.get('hint', '')}"


@pytest.mark.parametrize(
    ("body", "code", "telling"),
    [
        ({"features": [[1, 2, 3, 4, 5]]}, "wrong_width", "has 5 values; the model takes 4"),
        ([1, 2, 3], "wrong_width", "has 3 values"),
        ({"features": [[1, 2, 3, 4], [1, 2, 3]]}, "ragged_rows", "row 1"),
        ({"features": [[1, 2, 3, 4], [1, "x", 3, 4]]}, "not_a_number", "Row 1, column 'feature2' holds \"x\""),
        ({"features": [[[1], [2], [3], [4]]]}, "wrong_shape", "3 dimensions"),
        ({"a": 1, "b": 2}, "wrong_width", "takes 4"),
        ({"feature1": 1, "feature2": 2, "feature3": 3, "four": 4}, "wrong_columns", '"feature4"'),
    ],
)
def test_what_does_not_fit_a_matrix_is_named(classifier: Any, body: Any, code: str, telling: str) -> None:
    reply = ask(batcher(classifier), body)
    assert (reply.status, reply.json["code"]) == (422, code)
    assert telling in reply.json["detail"]


def test_without_names_an_object_counts_in_its_order(classifier: Any, matrix: Any) -> None:
    row = dict(zip("abcd", matrix[0].tolist(), strict=True))
    assert predictions(batcher(classifier), row) == classifier.predict(matrix[:1]).tolist()


def test_a_flat_list_is_one_row_unless_the_model_takes_one_column(matrix: Any) -> None:
    narrow = LinearRegression().fit(matrix[:, :1], matrix[:, 0])
    assert len(predictions(batcher(narrow), {"features": [1, 2, 3]})) == 3
    assert len(predictions(batcher(narrow), {"input": 2.5})) == 1


def test_missing_values_are_left_to_the_model(matrix: Any, labels: Any) -> None:
    tolerant = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=2).fit(matrix, labels)
    assert len(predictions(batcher(tolerant), {"features": [[None, 1, 2, 3]]})) == 1


def test_texts_are_read_without_columns() -> None:
    texts = ["good film", "bad film", "good book", "bad book"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    expected = model.predict(["good", "bad"]).tolist()
    for body in ({"input": ["good", "bad"]}, {"text": ["good", "bad"]}, {"instances": [["good"], ["bad"]]}):
        assert predictions(batcher(model), body) == expected
    assert predictions(batcher(model), {"input": "good"}) == expected[:1]
    assert ask(batcher(model), {"input": [1]}).json["code"] == "not_a_string"


def test_a_union_of_vectorizers_reads_texts() -> None:
    texts = ["good film", "bad film", "good book", "bad book"]
    words, characters = TfidfVectorizer(), TfidfVectorizer(analyzer="char")
    model = make_pipeline(make_union(words, characters), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    assert predictions(batcher(model), {"input": ["good", "bad"]}) == model.predict(["good", "bad"]).tolist()


def test_a_dict_vectorizer_takes_objects_whose_columns_and_categories_it_shows() -> None:
    trips = [
        {"km": 1, "zone": "north"},
        {"km": 2, "zone": "south"},
        {"km": 30, "zone": "north"},
        {"km": 4, "zone": "west"},
    ]
    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(trips, [1.0, 2.5, 30.0, 4.5])
    adapter = EstimatorAdapter(model)
    shown = {one["name"]: (one["datatype"], one["choices"]) for one in adapter.signature()["inputs"]}
    assert shown == {"km": ("FP64", []), "zone": ("BYTES", ["north", "south", "west"])}
    for body in (trips, {"dataframe_records": trips}, {"features": [[trip["km"], trip["zone"]] for trip in trips]}):
        assert predictions(batcher(model), body) == pytest.approx(model.predict(trips))
    assert predictions(batcher(model), adapter.samples()[0]) == pytest.approx(
        model.predict([{"km": 1, "zone": "north"}])
    )
    numbers = [{"km": 1.0, "hour": 2.0}, {"km": 5.0, "hour": 3.0}]
    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(numbers, [1.0, 2.0])
    assert predictions(batcher(model), numbers) == pytest.approx([1.0, 2.0])


def test_unnamed_columns_may_be_mixed() -> None:
    data = np.array([["a", 1], ["b", 2], ["a", 3], ["b", 4]], dtype=object)
    model = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(data, [0, 1, 0, 1])
    assert predictions(batcher(model), {"features": [["a", 3], ["b", 4]]}) == [0, 1]


class NeedsNames(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """A step of the owner's own that says nothing of what it takes."""

    def fit(self, frame: Any, y: Any = None) -> NeedsNames:
        return self

    def transform(self, frame: Any) -> Any:
        return frame[["b"]].to_numpy() * 2


def test_a_model_that_says_nothing_of_its_columns_gets_those_of_the_request() -> None:
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    model = make_pipeline(NeedsNames(), LinearRegression()).fit(frame, [2, 4])
    served = predictions(batcher(model), {"instances": [{"a": "x", "b": 3}, {"a": "y", "b": 4.5}]})
    np.testing.assert_allclose(served, [6, 9])


def test_a_numeric_model_with_names_logs_no_warning(matrix: Any, labels: Any) -> None:
    named = LogisticRegression().fit(pd.DataFrame(matrix, columns=list("abcd")), labels)
    with warnings.catch_warnings():
        target = batcher(named)
        row = dict(zip("dcba", matrix[0, ::-1].tolist(), strict=True))
        assert predictions(target, row) == named.predict(pd.DataFrame(matrix[:1], columns=list("abcd"))).tolist()


def test_every_n_jobs_becomes_one_and_predictions_stay(matrix: Any, labels: Any) -> None:
    forest = RandomForestClassifier(4, n_jobs=2, random_state=0)
    model = make_pipeline(StandardScaler(), VotingClassifier([("f", forest)], n_jobs=2)).fit(matrix, labels)
    expected = model.predict(matrix[:5]).tolist()
    adapter = EstimatorAdapter(model)
    assert model[-1].n_jobs == 1
    assert model[-1].estimators_[0].n_jobs == 1
    assert predictions(adapter, rows(matrix)) == expected


def test_the_signature_tells_columns_types_choices_and_classes(pipeline: Any) -> None:
    signature = EstimatorAdapter(pipeline).signature()
    assert (signature["kind"], signature["named"], signature["classes"]) == ("table", True, ["big", "small"])
    assert [(one["name"], one["datatype"], one["choices"]) for one in signature["inputs"]] == [
        ("age", "FP64", []),
        ("city", "BYTES", ["berlin", "lagos", "lima"]),
        ("rooms", "INT64", [1, 2, 3]),
    ]
    assert [one["name"] for one in signature["outputs"]] == ["predictions", "probabilities"]


def test_the_first_sample_is_answered(pipeline: Any, classifier: Any, matrix: Any) -> None:
    text = make_pipeline(TfidfVectorizer(), Ridge()).fit(["a short text", "another one"], [0.0, 1.0])
    for model in (pipeline, classifier, text, StandardScaler().fit(matrix), DBSCAN()):
        assert ask(batcher(model), EstimatorAdapter(model).samples()[0]).status == 200


def test_a_sample_has_the_digits_that_a_person_would_type(matrix: Any) -> None:
    (row,) = EstimatorAdapter(StandardScaler().fit(matrix / 3)).samples()[0]["features"]
    assert row
    assert [value for value in row if len(repr(abs(value)).replace(".", "").strip("0")) > 3] == []


def test_lightgbm_gets_its_categories_as_it_was_trained() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.random(80), "kind": pd.Categorical(["w", "x", "y", "z"] * 20)})
    target = frame["kind"].isin(["x", "z"]).astype(int)
    eager = {"min_child_samples": 2, "min_data_per_group": 1, "cat_smooth": 0, "verbose": -1}
    model = lightgbm.LGBMClassifier(n_estimators=20, **eager).fit(frame, target)
    assert model.predict(frame[:4]).tolist() == [0, 1, 0, 1]
    adapter = EstimatorAdapter(model)
    assert adapter.signature()["inputs"][1]["choices"] == ["w", "x", "y", "z"]
    replies = ask_all(Batcher(adapter), [{"kind": kind, "size": 0.5} for kind in "wxyz"])
    assert [reply.json["predictions"] for reply in replies] == [[0], [1], [0], [1]]


def test_histogram_boosting_encodes_its_own_categories() -> None:
    frame = pd.DataFrame({"size": np.arange(80.0), "kind": pd.Categorical(["w", "x", "y", "z"] * 20)})
    target = frame["kind"].isin(["x", "z"]).astype(int)
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2).fit(frame, target)
    served = predictions(batcher(model), {"kind": ["w", "x", None], "size": [1, 2.5, 3]})
    assert served[:2] == [0, 1]


def test_a_request_of_nothing_has_no_rows() -> None:
    """Holds for a model that does not declare its inputs, too."""
    for body in ({}, {"inputs": []}, {"inputs": [{"name": "a", "shape": [0, 2], "datatype": "FP32", "data": []}]}):
        assert ask(batcher(lambda rows: rows), body).json["code"] == "no_rows"
