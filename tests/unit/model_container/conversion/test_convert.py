"""The ONNX variant of an estimator gives the answers of the estimator, or it is not served."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier

from model_container.adapters.accelerated import AcceleratedAdapter
from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.onnx.session import open_session
from model_container.batch import Batcher
from model_container.contract.frames import OPTION_PROBABILITIES, Request
from model_container.conversion import judge
from model_container.conversion.convert import prove
from model_container.conversion.judge import Difference, compare, same_answers
from model_container.conversion.rows import RowSet

ROWS, COLUMNS = 150, 5
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, COLUMNS)).round(2)
Y = (X[:, 0] * 2 + X[:, 1] ** 2 + RNG.normal(scale=0.3, size=ROWS)).round(3)
CLASSES = np.digitize(Y, [0.0, 2.0])
LABELS = np.array(["low", "middle", "high"])[CLASSES]
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
FRAME = pd.DataFrame(
    {"age": X[:, 0] * 10 + 40, "rooms": RNG.integers(1, 6, ROWS), "city": RNG.choice(list("abc"), ROWS)}
)
MIXED = (StandardScaler(), ["age", "rooms"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
SMALL = {"n_estimators": 12, "random_state": 0}
QUIET = {"n_estimators": 8, "min_child_samples": 3, "verbose": -1}

FITS: dict[str, tuple[Any, Any, Any]] = {
    "forest": (RandomForestClassifier(**SMALL), X, CLASSES),
    "forest with strings": (RandomForestClassifier(max_depth=3, **SMALL), X, LABELS),
    "forest with gaps": (RandomForestClassifier(**SMALL), GAPS, CLASSES),
    "forest of fractions": (RandomForestClassifier(**SMALL), X, CLASSES.astype(float)),
    "extra trees": (ExtraTreesClassifier(**SMALL), X, CLASSES),
    "forest of numbers": (RandomForestRegressor(**SMALL), X, Y),
    "forest of two numbers": (RandomForestRegressor(**SMALL), X, np.c_[Y, -Y]),
    "tree": (DecisionTreeClassifier(random_state=0), X, CLASSES),
    "gradient boosting": (GradientBoostingClassifier(**SMALL), X, LABELS),
    "gradient boosting of numbers": (GradientBoostingRegressor(**SMALL), X, Y),
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=8), GAPS, LABELS),
    "histogram boosting of numbers": (HistGradientBoostingRegressor(max_iter=8), X, Y),
    "histogram boosting of counts": (HistGradientBoostingRegressor(loss="poisson", max_iter=8), X, np.abs(Y)),
    "ada boost": (AdaBoostClassifier(n_estimators=5), X, CLASSES),
    "logistic regression": (LogisticRegression(), X, LABELS),
    "logistic regression of truth": (LogisticRegression(), X, Y > 1),
    "linear regression": (LinearRegression(), X, Y),
    "two linear regressions": (MultiOutputRegressor(Ridge()), X, np.c_[Y, -Y]),
    "support vectors": (SVC(), X, CLASSES),
    "support vectors of numbers": (SVR(), X, Y),
    "neurons": (MLPClassifier((8,), max_iter=400, tol=1e-2, random_state=0), X, LABELS),
    "naive bayes": (GaussianNB(), X, CLASSES),
    "scaled": (make_pipeline(StandardScaler(), LogisticRegression()), X, CLASSES),
    "scaled forest": (make_pipeline(StandardScaler(), RandomForestClassifier(**SMALL)), X, CLASSES),
    "imputed": (make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), GAPS, CLASSES),
    "polynomial": (make_pipeline(PolynomialFeatures(2), Ridge()), X, Y),
    "mixed columns": (make_pipeline(make_column_transformer(*MIXED), LogisticRegression()), FRAME, CLASSES),
    "mixed columns, forest": (
        make_pipeline(make_column_transformer(*MIXED), RandomForestClassifier(**SMALL)),
        FRAME,
        LABELS,
    ),
    "searched": (GridSearchCV(RandomForestClassifier(**SMALL), {"max_depth": [3]}, cv=2), X, CLASSES),
    "lightgbm": (LGBMClassifier(**QUIET), X, LABELS),
    "lightgbm of two": (LGBMClassifier(**QUIET), GAPS, Y > 1),
    "lightgbm of numbers": (LGBMRegressor(**QUIET), X, Y),
}
MAY_STAY = {
    "neighbours": (KNeighborsClassifier(), X, CLASSES),
    "bagging": (BaggingClassifier(n_estimators=5, random_state=0), X, CLASSES),
    "isolation": (IsolationForest(n_estimators=10, random_state=0), X, None),
    "clusters": (KMeans(3, n_init=1, random_state=0), X, None),
}


@cache
def original(name: str) -> EstimatorAdapter:
    estimator, x, y = {**FITS, **MAY_STAY}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EstimatorAdapter(estimator.fit(x, y))


def bodies(x: Any) -> list[bytes]:
    """Requests for training rows, each alone and all together."""
    rows = [[None if value != value else value for value in row] for row in np.asarray(x, dtype=object)[:40].tolist()]
    return [json.dumps({"features": part}).encode() for part in (*([row] for row in rows), rows)]


def answers(adapter: Any, requests: list[bytes], options: int) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _, _ = Batcher(adapter).run([Request(body, options=options) for body in requests])
    return [(answer.status, json.loads(answer.body)) for answer in found]


def assert_alike(wanted: Any, got: Any) -> None:
    """Assert that both have the same types, and numbers within the stated tolerance."""
    assert type(wanted) is type(got), (wanted, got)
    if isinstance(wanted, dict):
        assert wanted.keys() == got.keys()
        for key in wanted:
            assert_alike(wanted[key], got[key])
    elif isinstance(wanted, list | tuple):
        assert len(wanted) == len(got)
        for one, other in zip(wanted, got, strict=True):
            assert_alike(one, other)
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    else:
        assert wanted == got


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*FITS, *MAY_STAY])
def test_the_converted_form_answers_as_the_original_or_is_refused_with_a_reason(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "LEAST_SPEEDUP", {})  # how fast it is here and now is not the question
    adapter = original(name)
    judgement, content = prove(adapter)
    if judgement.reason:
        assert name in MAY_STAY, judgement.reason
        assert content == b""
        return
    assert judgement.rows_compared >= 2000
    assert judgement.speedup.keys() == {"1", "256"}
    faster = AcceleratedAdapter(open_session(content, 1))
    assert (faster.signature(), faster.samples()) == (adapter.signature(), adapter.samples())
    for options in (0, OPTION_PROBABILITIES) if adapter.has_probabilities else (0,):
        requests = bodies({**FITS, **MAY_STAY}[name][1])
        assert_alike(answers(adapter, requests, options), answers(faster, requests, options))


def test_ties_in_a_forest_are_resolved_as_in_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LEAST_SPEEDUP", {})
    forest = RandomForestClassifier(100, random_state=0).fit(X, CLASSES)
    _, content = prove(EstimatorAdapter(forest))
    faster = AcceleratedAdapter(open_session(content, 1))
    many = np.random.default_rng(5).normal(size=(5000, COLUMNS))
    ((status, answer),) = answers(faster, [json.dumps({"features": many.tolist()}).encode()], OPTION_PROBABILITIES)
    shares = forest.predict_proba(many)
    top = np.sort(shares, axis=1)
    assert (top[:, -1] == top[:, -2]).any()  # there are such rows
    assert status == 200
    assert answer["predictions"] == forest.predict(many).tolist()
    assert answer["probabilities"] == shares.tolist()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (make_pipeline(TfidfVectorizer(), Ridge()).fit(["one text", "another"], [0, 1]), "takes text"),
        (RandomForestClassifier(3).fit(X, np.c_[CLASSES, CLASSES % 2]), "several columns of labels"),
        (StandardScaler().fit(X), "no predict()"),
        (DBSCAN().fit(X), "no predict()"),
    ],
)
def test_models_without_an_equivalent_onnx_variant_give_the_reason(model: Any, reason: str) -> None:
    judgement, content = prove(EstimatorAdapter(model))
    assert reason in judgement.reason
    assert content == b""


class Own(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A class of the owner's that no converter knows."""

    def fit(self, x: Any, y: Any) -> Own:
        self.classes_, self.n_features_in_ = np.unique(y), x.shape[1]
        return self

    def predict(self, x: Any) -> Any:
        return self.classes_[(np.asarray(x)[:, 0] > 0).astype(int)]


def test_a_custom_estimator_is_not_converted() -> None:
    judgement, _ = prove(EstimatorAdapter(Own().fit(X, Y > 1)))
    assert judgement.reason


def test_a_variant_that_is_not_faster_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LEAST_SPEEDUP", {1: 1e9})
    judgement, content = prove(original("tree"))
    assert "times as fast for 1 row" in judgement.reason
    assert judgement.speedup["1"] > 1
    assert content == b""


def rows() -> RowSet:
    return RowSet([column.copy() for column in X.T], True)


class Flawed:
    """The original, but for one thing."""

    def __init__(self, adapter: EstimatorAdapter, flaw: Any) -> None:
        self._adapter = adapter
        self._flaw = flaw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def predict(self, inputs: Any, probabilities: bool) -> Any:
        return self._flaw(self._adapter.predict(inputs, probabilities))


def one_other_label(outputs: Any) -> Any:
    labels = outputs.values["predictions"].copy()
    labels[-1] = "low" if labels[-1] != "low" else "high"
    return outputs._replace(values={"predictions": labels})


def shifted_shares(outputs: Any) -> Any:
    return outputs._replace(probabilities=[share + 1e-4 for share in outputs.probabilities])


def test_a_single_different_label_or_number_is_detected() -> None:
    adapter = original("logistic regression")
    assert compare(adapter, adapter, rows().all())[0] == 0
    for flaw, words in (
        (one_other_label, "1 of 150 compared rows get a different label"),
        (shifted_shares, "probabilities"),
    ):
        with pytest.raises(Difference, match=words):
            compare(adapter, Flawed(adapter, flaw), rows().all())  # type: ignore[arg-type]


def test_labels_of_another_type_and_different_refusals_are_detected() -> None:
    adapter = original("tree")

    def as_floats(outputs: Any) -> Any:
        return outputs._replace(values={"predictions": outputs.values["predictions"].astype(float)})

    with pytest.raises(Difference, match="answered differently"):
        same_answers(adapter, Flawed(adapter, as_floats), bodies(X)[:1])  # type: ignore[arg-type]
    missing = json.dumps({"features": [[None] * COLUMNS]}).encode()
    with pytest.raises(Difference, match="instead of 422"):
        same_answers(original("logistic regression"), original("histogram boosting"), [missing])
