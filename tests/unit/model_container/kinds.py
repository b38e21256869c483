"""One model for each adapter, loaded from its file as a replica loads it, and requests that it takes and refuses."""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, helper

from model_container.adapters import load
from model_container.adapters.base import Adapter
from model_container.contract.config import PredictContract, RuntimeConfig
from tests.unit.model_container.graphs import FLOAT, graph

WIDTH = 4
NAMES = ("a", "b", "c", "d")
GUILTY = [13, 0, 0, 0]
"""A row that is read like any other and that owners' code here refuses; no other row has a 13."""

X = np.random.default_rng(4).normal(size=(80, WIDTH)).round(3)
LABELS = np.array(["no", "maybe", "yes"])[np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])]

Row = list[float]
Body = Callable[[list[Row]], Any]


def features(rows: list[Row]) -> Any:
    return {"features": rows}


def columns(rows: list[Row]) -> Any:
    return {"dataframe_split": {"columns": list(NAMES), "data": rows}}


def squares(rows: list[Row]) -> Any:
    return {"inputs": {"x": [[row[:2], row[2:]] for row in rows]}}


UNREADABLE: tuple[Any, ...] = (b"", b"{", b"\xff\xfe", {"features": []})
NO_TABLE: tuple[Any, ...] = (
    b"[[1e999, 1, 1, 1]]",
    {"features": [["x", 1, 1, 1]]},
    {"features": [[1]]},
    {"features": [[1, 2, 3, 4], [1]]},
    {"z": 1},
)


class Kind(NamedTuple):
    """make: of a folder for its files. body: a request of some rows. bad: requests that it refuses by themselves.

    tolerance: relative, where BLAS or a vector unit sums many rows in another order than one; 0 is equal byte for byte.
    """

    make: Callable[[Path], Adapter]
    body: Body = features
    bad: tuple[Any, ...] = (*UNREADABLE, *NO_TABLE)
    tolerance: float = 0.0


class Own:
    """Any object that predicts; each row is answered on its own."""

    def predict(self, rows: Any) -> Any:
        matrix = np.asarray(rows, dtype=float)
        if (matrix[:, 0] == GUILTY[0]).any():
            raise ValueError("thirteen")
        return matrix[:, 0] * 2 + matrix[:, 1]

    def answer(self, rows: Any) -> Any:
        return -self.predict(rows)


def by_row(rows: Any) -> Any:
    return Own().predict(rows)


def across_rows(rows: Any) -> Any:
    return np.asarray(rows, dtype=float) - np.asarray(rows, dtype=float).mean(axis=0)


class Short:
    """Forgets the rows that begin below zero."""

    def predict(self, rows: Any) -> Any:
        matrix = np.asarray(rows, dtype=float)
        return matrix[matrix[:, 0] >= 0, 0]

    answer = predict


def short(rows: Any) -> Any:
    return Short().predict(rows)


def short_table(rows: Any) -> Any:
    """One column of answers is whole, the other is short."""
    return {"whole": np.asarray(rows)[:, 0], "short": short(rows)}


def pickled(model: Any, **call: Any) -> Callable[[Path], Adapter]:
    def make(folder: Path) -> Adapter:
        (folder / "m.pkl").write_bytes(pickle.dumps(model))
        return load(RuntimeConfig(str(folder / "m.pkl"), "pickle", call=PredictContract(**call)))

    return make


def joblib_pipeline(folder: Path) -> Adapter:
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, LABELS), folder / "m.joblib")
    return load(RuntimeConfig(str(folder / "m.joblib"), "joblib"))


def declared_probabilities(folder: Path) -> Adapter:
    """Another method, and names for columns that the estimator does not know."""
    from sklearn.naive_bayes import GaussianNB

    inputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in NAMES]
    return pickled(GaussianNB().fit(X, LABELS), method="predict_proba", inputs=inputs)(folder)


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(8, random_state=0).fit(X, LABELS)


def skops_forest(folder: Path) -> Adapter:
    import skops.io

    skops.io.dump(forest(), folder / "m.skops")
    return load(RuntimeConfig(str(folder / "m.skops"), "skops"))


def skops_short(folder: Path) -> Adapter:
    import skops.io

    skops.io.dump(Short(), folder / "m.skops")
    return load(RuntimeConfig(str(folder / "m.skops"), "skops"))


def accelerated_forest(folder: Path) -> Adapter:
    from model_container.adapters.estimator import EstimatorAdapter
    from model_container.conversion import judge
    from model_container.conversion.convert import prove

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(judge, "LEAST_SPEEDUP", {})  # how fast it is here and now is not the question
        judgement, content = prove(EstimatorAdapter(forest()))
    assert content, judgement.reason
    (folder / "m.onnx").write_bytes(content)
    return load(RuntimeConfig(str(folder / "m.onnx"), "accelerated"))


def onnx_classifier(folder: Path) -> Adapter:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    model = to_onnx(LogisticRegression().fit(X, LABELS), X[:1].astype(np.float32))
    return onnx_file(folder, model)


def onnx_file(folder: Path, model: Any) -> Adapter:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return load(RuntimeConfig(str(folder / "m.onnx"), "onnx"))


def onnx_squares(folder: Path) -> Adapter:
    """Tensors of any number of rows, of one kind in and two out."""
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    outputs = [("y", FLOAT, ["n", 2, 2]), ("z", FLOAT, ["n", 2, 2])]
    return onnx_file(folder, graph(nodes, [("x", FLOAT, ["n", 2, 2])], outputs))


def onnx_texts(folder: Path) -> Adapter:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    ports = [("x", TensorProto.STRING, ["n", 2]), ("y", TensorProto.STRING, ["n", 2])]
    return onnx_file(folder, graph(nodes, ports[:1], ports[1:]))


def onnx_across_rows(folder: Path) -> Adapter:
    """The rows have a first dimension of any size, and their mean over it makes each answer depend on all."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return onnx_file(folder, graph(nodes, [("x", FLOAT, ["n", WIDTH])], [("y", FLOAT, ["n", WIDTH])]))


def onnx_row(folder: Path) -> Adapter:
    """A graph that takes one row at a time."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return onnx_file(folder, graph(nodes, [("x", FLOAT, [1, WIDTH])], [("y", FLOAT, [1, WIDTH])]))


def python_mode(source: str, **call: Any) -> Callable[[Path], Adapter]:
    def make(folder: Path) -> Adapter:
        (folder / "model.py").write_text(source)
        with process_as_it_was():
            return load(RuntimeConfig(str(folder), "python", call=PredictContract(**call)))

    return make


@contextmanager
def process_as_it_was() -> Iterator[None]:
    """A replica loads one model and changes its process for it; the process of the tests loads many."""
    path, main, environ = list(sys.path), dict(vars(sys.modules["__main__"])), dict(os.environ)
    try:
        yield
    finally:
        sys.path[:] = path
        sys.modules.pop("model", None)
        vars(sys.modules["__main__"]).clear()
        vars(sys.modules["__main__"]).update(main)
        os.environ.clear()
        os.environ.update(environ)


FREE = """
class Model:
    batch = BATCH

    def predict(self, rows):
        if any(row[0] == 13 for row in rows):
            raise ValueError("thirteen")
        RETURN
"""


def free(answer: str, batch: bool) -> Callable[[Path], Adapter]:
    return python_mode(FREE.replace("BATCH", str(batch)).replace("RETURN", answer))


TYPED_COLUMNS = """
class Model:
    inputs = {"a": "FP64", "b": "FP64", "c": "FP64", "d": "FP64"}
    outputs = {"sum": "FP64", "large": "BOOL"}
    batch = True

    def predict(self, columns):
        if (columns["a"] == 13).any():
            raise ValueError("thirteen")
        return {"sum": columns["a"] + columns["d"], "large": columns["b"] > 1}
"""
TYPED_TENSOR = """
class Model:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2, 2]}]
    batch = True

    def preprocess(self, x):
        return x.transpose(0, 2, 1)

    def predict(self, x):
        return x * 2
"""
PYFUNC = """
import mlflow
from mlflow.models import set_model

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if (model_input["a"] == 13).any():
            raise ValueError("thirteen")
        return RETURN

set_model(Model())
"""


def mlflow_folder(answer: str) -> Callable[[Path], Adapter]:
    """A python_function of which its owner says that each row is answered on its own."""

    def make(folder: Path) -> Adapter:
        (folder / "code.py").write_text(PYFUNC.replace("RETURN", answer))
        with process_as_it_was(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
            import mlflow.pyfunc

            mlflow.pyfunc.save_model(folder / "m", python_model=str(folder / "code.py"), pip_requirements=["mlflow"])
            inputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in NAMES]
            return load(RuntimeConfig(str(folder / "m"), "mlflow", call=PredictContract(batchable=True, inputs=inputs)))

    return make


GUILTY_ROWS = {"features": [[1, 2, 3, 4], GUILTY]}
NOT_FREE = (*UNREADABLE, GUILTY_ROWS, {"z": 1})
NO_SQUARES = (*UNREADABLE, {"inputs": {"x": [[1, 2]]}}, {"inputs": {"x": [[["x", 1], [1, 1]]]}}, {"z": 1})
NO_TEXTS = (*UNREADABLE, {"inputs": {"x": [["a"]]}}, {"inputs": {"x": [["a", 1]]}}, {"z": 1})

KINDS = {
    "an estimator": Kind(joblib_pipeline, tolerance=1e-9),
    "an estimator by another method": Kind(declared_probabilities, columns, tolerance=1e-9),
    "an object that predicts": Kind(pickled(Own()), bad=(*UNREADABLE, GUILTY_ROWS, {"features": [["x", 1, 1, 1]]})),
    "an object by a method of its own": Kind(
        pickled(Own(), method="answer", batchable=True), bad=(*UNREADABLE, GUILTY_ROWS)
    ),
    "a function": Kind(pickled(by_row), bad=(*UNREADABLE, GUILTY_ROWS)),
    "a function whose rows are joined": Kind(pickled(by_row, batchable=True), bad=(*UNREADABLE, GUILTY_ROWS)),
    "a function across rows": Kind(pickled(across_rows), bad=UNREADABLE),
    "skops": Kind(skops_forest),
    "an accelerated forest": Kind(accelerated_forest),
    "ONNX of a classifier": Kind(onnx_classifier, tolerance=1e-5),
    "ONNX of tensors": Kind(onnx_squares, squares, NO_SQUARES),
    "ONNX of texts": Kind(
        onnx_texts, lambda rows: {"inputs": {"x": [[str(row[0]), str(row[1])] for row in rows]}}, NO_TEXTS
    ),
    "ONNX across rows": Kind(onnx_across_rows),
    "ONNX of one row": Kind(onnx_row),
    "Python": Kind(free("return [row[0] * 2 + row[1] for row in rows]", batch=False), bad=NOT_FREE),
    "Python across rows": Kind(free("return [row[0] - rows[0][0] for row in rows]", batch=False), bad=NOT_FREE),
    "Python whose rows are joined": Kind(
        free("return [row[0] * 2 + row[1] for row in rows]", batch=True), bad=NOT_FREE
    ),
    "Python that answers in columns": Kind(
        free("return {'first': [row[0] for row in rows], 'second': [str(row[1]) for row in rows]}", batch=True),
        bad=NOT_FREE,
    ),
    "Python that yields": Kind(
        free("return (row[0] if row[1] > 0 else {'low': row[1]} for row in rows)", batch=True), bad=NOT_FREE
    ),
    "Python with typed columns": Kind(
        python_mode(TYPED_COLUMNS), columns, (*UNREADABLE, *NO_TABLE, {"a": 13, "b": 0, "c": 0, "d": 0})
    ),
    "Python with typed tensors": Kind(python_mode(TYPED_TENSOR), squares, NO_SQUARES),
    "an MLflow folder": Kind(
        mlflow_folder("model_input['a'] * 2 + model_input['d']"),
        columns,
        (*UNREADABLE, *NO_TABLE, {"a": 13, "b": 0, "c": 0, "d": 0}),
    ),
}


SHORT: dict[str, tuple[Callable[[Path], Adapter], Body]] = {
    "an object that predicts": (pickled(Short()), features),
    "an object by a method of its own": (pickled(Short(), method="answer", batchable=True), features),
    "a function": (pickled(short), features),
    "a function whose rows are joined": (pickled(short, batchable=True), features),
    "a table of a function": (pickled(short_table, batchable=True), features),
    "skops": (skops_short, features),
    "Python": (free("return [row[0] for row in rows if row[0] >= 0]", batch=False), features),
    "Python whose rows are joined": (free("return [row[0] for row in rows if row[0] >= 0]", batch=True), features),
    "Python that yields": (free("return (row[0] for row in rows if row[0] >= 0)", batch=True), features),
    "Python that answers in columns": (
        free("return {'first': [row[0] for row in rows if row[0] >= 0], 'all': [row[0] for row in rows]}", batch=True),
        features,
    ),
    "Python with typed columns": (python_mode(TYPED_COLUMNS.replace('["b"] > 1', '["b"][columns["a"] >= 0]')), columns),
    "Python with typed tensors": (python_mode(TYPED_TENSOR.replace("x * 2", "x[x[:, 0, 0] >= 0]")), squares),
    "an MLflow folder": (mlflow_folder("model_input['a'][model_input['a'] >= 0]"), columns),
}
"""Models of owners that answer rows below zero with nothing, and requests of rows to them."""


def as_json(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
