"""Adapter for a Python object that predicts, by scikit-learn's conventions or something close to them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, Union, cast

import numpy as np

from model_container.adapters.base import PROBABILITIES, Inputs, Outputs, tensor
from model_container.adapters.columns import (
    ColumnFacts,
    columns_of_objects,
    first_step,
    is_numeric_only,
    read_columns,
    reads_text,
)
from model_container.adapters.declared import described
from model_container.adapters.guessed_samples import GUESSES, TEXT
from model_container.adapters.table_samples import table_samples
from model_container.bodies.content import Content, Named, Rows, no_rows
from model_container.bodies.numeric_fast_path import plain_rows
from model_container.bodies.table import Column, Open, Table, Texts
from model_container.bodies.values import ANY, datatype_of
from model_container.contract.config import AS_USUAL, PredictContract

PREDICTIONS = "predictions"

# In order of preference. The second value says whether each row is predicted on its own: a method that fits on every
# call, or an arbitrary function, may use the whole batch.
_METHODS = (("predict", True), ("transform", True), ("fit_predict", False), ("fit_transform", False))
_ROW_METHODS = frozenset(
    ("predict", "transform", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "apply")
)


class EstimatorAdapter:
    """Adapter for one unpickled object.

    Raises TypeError at construction if the object offers no way to predict, or not the method that its owner wants.
    as_frames: columns that the owner declares are always passed as a DataFrame, each with its very datatype.
    """

    def __init__(self, model: Any, call: PredictContract = AS_USUAL, as_frames: bool = False) -> None:
        self._model = model
        self.method, self.joinable = _chosen(model, call.method) if call.method else _method(model)
        self.joinable = self.joinable if call.batchable is None else call.batchable
        self._call = getattr(model, self.method) if self.method else model
        yields = inspect.isgeneratorfunction(self._call) or inspect.isgeneratorfunction(_get(self._call, "__call__"))
        self.joinable = self.joinable and not (yields and call.batchable is None)
        self.has_probabilities = callable(_get(model, "predict_proba"))
        self.classes = _classes(_get(model, "classes_"))
        objects = columns_of_objects(first_step(model))
        self._takes_objects = bool(objects)
        names = [column.name for column in objects] or _names(model)
        own = objects or _facts(model, names)
        self._facts, self._named = described(own, names is not None, call)
        for column in self._facts:
            column.is_exact = as_frames
        self._categories = frozenset(column.name for column in self._facts if column.is_category)
        self._input = self._make_input()
        self.names: FrozenSet[str] = self._input.known_names
        self.plain = None if yields else plain_rows(self._input)
        is_declared = self._named and not own
        self._frames = (names is not None or is_declared) and not (self._is_uniform and is_numeric_only(model))
        if objects:
            self._frames = False
        elif is_declared and self._is_uniform:
            self._frames = as_frames
        elif self._frames:
            self._frames = _has_pandas(required=not self._is_uniform)
        elif names is not None:
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
        run_on_one_thread(model)

    @property
    def model(self) -> Any:
        """Return the object that predicts."""
        return self._model

    @property
    def table(self) -> Optional[Table]:
        """Return the model's columns; None if they are unknown or if the model takes texts."""
        return self._input if isinstance(self._input, Table) else None

    @property
    def texts(self) -> FrozenSet[str]:
        return self._input.texts

    @property
    def _is_uniform(self) -> bool:
        return isinstance(self._input, Table) and self._input.uniform

    def _make_input(self) -> Union[Table, Texts, Open]:
        if self._facts:
            return Table([column.column() for column in self._facts], self._named, spaceless=_is_spaceless(self._model))
        if reads_text(first_step(self._model)):
            return Texts()
        return Open()

    def inputs(self, content: Content) -> Inputs:
        if isinstance(self._input, Open) and isinstance(content, Named):
            if len(content.values) == 1 and any(len(shape) > 1 for shape in content.shapes.values()):
                return Inputs(self._input.arrays(_rows(content)))
            table = Table([Column(name, ANY) for name in content.values], named=True)
            return Inputs(table.arrays(content), table.names)
        return Inputs(self._input.arrays(cast(Any, content)))

    def plain_inputs(self, matrix: Any) -> Inputs:
        return Inputs([matrix])

    def begin(self, inputs: Inputs) -> Union[Iterator[Any], Outputs]:
        output = self._call(self._data(inputs))
        return output if isinstance(output, Iterator) else self._outputs(output, inputs.rows)

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        data = self._data(inputs)
        outputs = self._outputs(self._call(data), inputs.rows)
        if not probabilities:
            return outputs
        shares = self._model.predict_proba(data)
        return outputs._replace(
            probabilities=list(map(_dense, shares)) if isinstance(shares, list) else [_dense(shares)]
        )

    def _outputs(self, output: Any, rows: int) -> Outputs:
        if self.method == "transform" and rows == 1 and getattr(output, "shape", (1,)) != (1,) and output.ndim == 1:
            output = output[np.newaxis]  # some transformers flatten a single row's output
        values, named = _normalise(output, rows)
        return Outputs(values, named, counted=self.joinable or not isinstance(output, Iterator))

    def _data(self, inputs: Inputs) -> Any:
        """Return a DataFrame if the model wants columns by name, objects if it takes these, otherwise one array."""
        arrays = inputs.arrays
        if self._takes_objects and isinstance(self._input, Table):
            rows = arrays[0].tolist() if arrays[0].ndim == 2 else zip(*(array.tolist() for array in arrays))
            return [dict(zip(self._input.names, row)) for row in rows]
        names = inputs.names or (self._input.names if self._frames and isinstance(self._input, Table) else ())
        if names:
            return _frame(names, arrays, self._categories)
        if _takes_labels(self._model):
            return arrays[0].ravel()
        if not isinstance(self._input, Table) or arrays[0].ndim == 2:
            return arrays[0]
        if all(array.dtype.kind in "fiub" for array in arrays):
            return np.column_stack(arrays)
        return np.column_stack([array.astype(object) for array in arrays])

    def signature(self) -> Dict[str, Any]:
        return {
            "kind": "table",
            "inputs": self._signature_inputs(),
            "outputs": self._signature_outputs(),
            "named": self._named,
            "methods": ["predict", "predict_proba"] if self.has_probabilities else ["predict"],
            "classes": self.classes,
        }

    def _signature_inputs(self) -> List[Dict[str, Any]]:
        if self._facts:
            return [
                {
                    **tensor(column.name, column.datatype, [-1], column.choices),
                    "optional": self._named and column.is_unused,
                }
                for column in self._facts
            ]
        if isinstance(self._input, Texts):
            return [tensor("text", "BYTES", [-1])]
        return [tensor("input", ANY, [-1, -1])]

    def _signature_outputs(self) -> List[Dict[str, Any]]:
        several = bool(self.classes) and isinstance(self.classes[0], list)
        if self.method not in ("predict", "fit_predict"):
            shares = self.method.startswith("predict_") and self.classes and not several
            return [tensor(PREDICTIONS, "FP64", [-1, len(self.classes)] if shares else [-1])]
        if self.classes:
            labels = np.asarray(self.classes[0] if several else self.classes)
            width = [-1, len(self.classes)] if several else [-1]
            outputs = [tensor(PREDICTIONS, datatype_of(labels.dtype), width)]
            if self.has_probabilities and not several:
                outputs.append(tensor(PROBABILITIES, "FP64", [-1, len(self.classes)]))
            return outputs
        kind = _get(self._model, "_estimator_type")
        datatype = {"regressor": "FP64", "clusterer": "INT64", "outlier_detector": "INT64"}.get(str(kind), "FP64")
        count = _get(self._model, "n_outputs_")
        return [tensor(PREDICTIONS, datatype, [-1, count] if isinstance(count, int) and count > 1 else [-1])]

    def samples(self) -> List[Any]:
        if isinstance(self._input, Texts):
            return [{"input": [TEXT]}]
        if not self._facts:
            return list(GUESSES)
        if not self.joinable and not self._named:  # a model that fits on each request needs several rows
            return [{"features": [[float(row + column) for column in range(len(self._facts))] for row in range(10)]}]
        return table_samples(self._facts, self._named)


def _rows(content: Named) -> Rows:
    """Return the rows of a single tensor, whose name is ignored because the model has no names."""
    if content.has_no_rows:
        raise no_rows()
    (values,) = content.values.values()
    return Rows(values)


def run_on_one_thread(model: Any) -> None:
    """Set every n_jobs in the model, including fitted parts, to 1.

    For a few rows a thread pool costs more than it gains, and a batch already uses all the CPU that the replica has.
    """
    seen = set()
    pending = [model]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, (list, tuple)):
            pending.extend(item for item in part if isinstance(item, (list, tuple)) or hasattr(item, "get_params"))
        elif isinstance(part, dict):
            pending.extend(item for item in part.values() if hasattr(item, "get_params"))
        elif hasattr(part, "get_params") and not isinstance(part, type):
            members = getattr(part, "__dict__", {})
            if members.get("n_jobs") not in (None, 1):
                part.n_jobs = 1
            pending.extend(
                item
                for item in members.values()
                if isinstance(item, (list, tuple, dict)) or hasattr(item, "get_params")
            )


def _method(model: Any) -> Tuple[str, bool]:
    for name, by_row in _METHODS:
        if callable(_get(model, name)):
            return name, by_row
    if callable(model) and not isinstance(model, type):
        return "", False
    held = f" with the keys {', '.join(map(repr, list(model)[:5]))}" if isinstance(model, dict) else ""
    raise TypeError(
        f"the artifact holds a {type(model).__name__}{held}, which has no predict or transform and cannot be called; "
        "save the estimator itself"
    )


def _chosen(model: Any, method: str) -> Tuple[str, bool]:
    """Return the method that the owner names and whether it predicts each row on its own, like _method.

    Raises TypeError.
    """
    if callable(_get(model, method)):
        return method, method in _ROW_METHODS
    offered = [name for name in sorted(_ROW_METHODS) if callable(_get(model, name))]
    raise TypeError(
        f"the artifact holds a {type(model).__name__}, which has no method {method}"
        + (f"; it has {', '.join(offered)}" if offered else "")
    )


def _get(model: Any, name: str) -> Any:
    """Return an attribute or None. Properties of unfitted or foreign objects may raise any error."""
    try:
        return getattr(model, name, None)
    except Exception:
        return None


def _names(model: Any) -> Optional[List[str]]:
    """Return the column names from training, None if there were none. LightGBM then makes up Column_0, Column_1, …"""
    names = _get(model, "feature_names_in_")
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    columns = [str(name) for name in names]
    return None if columns == [f"Column_{index}" for index in range(len(columns))] else columns


def _facts(model: Any, names: Optional[List[str]]) -> List[ColumnFacts]:
    if _takes_labels(model):
        facts = ColumnFacts("label", datatype_of(model.classes_.dtype), _classes(model.classes_))
        return [facts]
    count = len(names) if names is not None else _get(model, "n_features_in_")
    if not isinstance(count, (int, np.integer)) or count < 1:
        return []
    return read_columns(model, names or [f"feature{index + 1}" for index in range(int(count))])


def _is_spaceless(model: Any) -> bool:
    """Return whether the names are LightGBM's, which writes an underscore for each space."""
    return type(first_step(model)).__module__.split(".")[0] == "lightgbm"


def _takes_labels(model: Any) -> bool:
    """Return whether the model is a label encoder, which takes one column as a flat array."""
    return type(model).__name__ in ("LabelEncoder", "LabelBinarizer") and type(model).__module__.startswith("sklearn.")


def _classes(classes: Any) -> List[Any]:
    if classes is None:
        return []
    if isinstance(classes, (list, tuple)):
        return [item.tolist() if isinstance(item, np.ndarray) else item for item in classes]
    return list(classes.tolist()) if isinstance(classes, np.ndarray) else []


def _has_pandas(required: bool) -> bool:
    """Return whether pandas is installed. Raises ModuleNotFoundError if it is not but required.

    Without it, numeric columns in training order work as well as a DataFrame; mixed columns do not.
    """
    try:
        import pandas  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        if required:
            raise ModuleNotFoundError(
                "No module named 'pandas'; the model was trained on a DataFrame: add pandas to its requirements"
            ) from error
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return False
    return True


def _frame(names: Tuple[str, ...], arrays: List[Any], categories: FrozenSet[str]) -> Any:
    import pandas as pd

    if len(arrays) == 1 and arrays[0].ndim == 2:
        return pd.DataFrame(arrays[0], columns=list(names), copy=False)
    # The dtype is given because pandas would otherwise infer one from all the values of a batch.
    columns = {name: pd.Series(array, dtype=array.dtype, copy=False) for name, array in zip(names, arrays)}
    for name in categories:
        columns[name] = columns[name].astype("category")
    return pd.DataFrame(columns, copy=False)


def _normalise(output: Any, rows: int) -> Tuple[Dict[str, Any], bool]:
    """Return the outputs by name with one item per row, and whether the names are the model's own."""
    if hasattr(output, "columns") and hasattr(output, "to_numpy") and len(set(output.columns)) == len(output.columns):
        return {str(name): _dense(output[name]) for name in output.columns}, True
    if isinstance(output, dict) and output:
        columns = {str(name): _dense(value) for name, value in output.items() if hasattr(value, "__len__")}
        if len(columns) == len(output) and not any(isinstance(value, str) for value in output.values()):
            return columns, True
        return {PREDICTIONS: [output]}, False
    value = _dense(output)
    if isinstance(value, np.ndarray) and value.ndim == 0 and rows == 1:
        value = value.reshape(1)
    return {PREDICTIONS: value}, False


def _dense(output: Any) -> Any:
    """Convert to an array, or to a list if the rows are of different kinds."""
    if isinstance(output, np.ndarray):
        return np.asarray(output)
    if isinstance(output, (list, tuple, Iterator)):
        return list(output)
    for method in ("toarray", "to_numpy"):  # sparse matrices; pandas and polars
        if hasattr(output, method):
            return np.asarray(getattr(output, method)())
    return np.asarray(output)
