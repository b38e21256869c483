"""Adapter for an ONNX model that PRISM converted from an estimator; it keeps the estimator's API.

The artifact is one file. What the graph does not contain (columns, classes, signature, samples, the estimator's error
messages) is JSON in its metadata, written by convert.py. The converter uses this same adapter to compare both models.
"""

from __future__ import annotations

import json
from typing import Any, Dict, FrozenSet, List, Tuple

import numpy as np

from model_container.adapters.base import Inputs, Outputs
from model_container.adapters.estimator import PREDICTIONS
from model_container.adapters.onnx.session import execution_of, open_session
from model_container.bodies.content import Content
from model_container.bodies.numeric_fast_path import plain_rows
from model_container.bodies.table import Column, Table
from model_container.bodies.values import DTYPES
from model_container.contract.config import RuntimeConfig

METADATA_KEY = "prism.accelerated"
_LARGEST = float(np.finfo(np.float32).max)


def load_accelerated(config: RuntimeConfig) -> AcceleratedAdapter:
    return AcceleratedAdapter(open_session(config.artifact, config.threads), config.threads)


class AcceleratedAdapter:
    """Adapter for a converted estimator. session: of a graph with this metadata:

    columns: [name, datatype, whether a missing value is None]. named, spaceless: as for Table. dtype: of the predictions.
    width: of the predictions, 0 for one number per row. labels: the classes if the graph's first output is an index.
    missing, large: by column, the message with which the estimator refuses NaN, or numbers too large for float32.
    classes, signature, samples: the estimator's.
    """

    joinable = True

    def __init__(self, session: Any, threads: int = 1) -> None:
        self._session = session
        self._threads = threads
        facts: Dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        self._facts = facts
        columns = [
            Column(name, datatype, None if none else Column("").missing) for name, datatype, none in facts["columns"]
        ]
        self._table = Table(columns, facts["named"], spaceless=facts.get("spaceless", False))
        self.names: FrozenSet[str] = self._table.known_names
        self.classes: List[Any] = facts["classes"]
        self.has_probabilities: bool = facts["has_probabilities"]
        self.plain = plain_rows(self._table)
        self._labels = None if facts["labels"] is None else np.array(facts["labels"], dtype=facts["dtype"])
        self._dtype = np.dtype(facts["dtype"])
        self._feeds = [(node.name, _dtype_of(node.type)) for node in session.get_inputs()]
        self._outputs = [node.name for node in session.get_outputs()]
        self._missing = _by_column(facts["missing"])
        self._large = _by_column(facts["large"])

    @property
    def table(self) -> Table:
        return self._table

    def inputs(self, content: Content) -> Inputs:
        return Inputs(self._table.arrays(content))

    def plain_inputs(self, matrix: Any) -> Inputs:
        return Inputs([matrix])

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        """Predict. Raises ValueError with the estimator's own message for values that it refuses."""
        self._refuse(inputs.arrays)
        results = self._session.run(self._outputs[: 2 if probabilities else 1], self._feed(inputs))
        predicted = self._predictions(results[0])
        return Outputs({PREDICTIONS: predicted}, probabilities=[np.asarray(results[1])] if probabilities else None)

    def _predictions(self, output: Any) -> Any:
        if self._labels is not None:
            return self._labels[output.ravel()]
        width = self._facts["width"]
        shaped = output.reshape(-1, width) if width else output.ravel()
        return shaped.astype(self._dtype, copy=False)

    def _feed(self, inputs: Inputs) -> Dict[str, Any]:
        arrays = inputs.arrays
        if len(self._feeds) == 1:
            name, dtype = self._feeds[0]
            matrix = arrays[0] if arrays[0].ndim == 2 else np.column_stack(arrays)
            return {name: matrix.astype(dtype, copy=False)}
        if arrays[0].ndim == 2:
            arrays = list(arrays[0].T)
        return {
            name: np.ascontiguousarray(array).astype(dtype, copy=False).reshape(-1, 1)
            for (name, dtype), array in zip(self._feeds, arrays)
        }

    def _refuse(self, arrays: List[Any]) -> None:
        """Raise for values that the estimator refuses, missing values first, as in scikit-learn's own check."""
        for column, message in self._missing:
            if np.isnan(_values(arrays, column)).any():
                raise ValueError(message)
        for column, message in self._large:
            with np.errstate(invalid="ignore"):
                if (np.abs(_values(arrays, column)) > _LARGEST).any():
                    raise ValueError(message)

    def execution(self) -> Dict[str, Any]:
        return execution_of(self._session, self._threads, self.joinable)

    def signature(self) -> Dict[str, Any]:
        return dict(self._facts["signature"])

    def samples(self) -> List[Any]:
        return list(self._facts["samples"])


def _values(arrays: List[Any], column: int) -> Any:
    """Return the values of a column. column: −1 for the whole matrix."""
    if arrays[0].ndim == 2:
        return arrays[0] if column < 0 else arrays[0][:, column]
    return arrays[column]


def _by_column(refusals: Dict[str, str]) -> List[Tuple[int, str]]:
    return [(int(column), message) for column, message in refusals.items()]


def _dtype_of(kind: str) -> Any:
    names = {"tensor(double)": "FP64", "tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(string)": "BYTES"}
    return DTYPES[names[kind]]
