"""Adapter for ONNX models, run by onnxruntime on a GPU if one is available, otherwise on the CPU.

The graph's inputs decide how a request is read:

    every input (rows,) or (rows, 1)    a table with named columns, as skl2onnx converts a DataFrame's
    one input (rows, k)                 a table of k columns without names
    anything else                       tensors by name, with or without their first dimension

An input with a default (an initializer of the same name) or of an optional type may be left out.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple, cast

import numpy as np

from model_container.adapters.base import PROBABILITIES, Inputs, Outputs, tensor
from model_container.adapters.onnx.ports import MAP, MAPS, TENSOR, Port
from model_container.adapters.onnx.providers import wanted_providers
from model_container.adapters.onnx.rows import probe_batching
from model_container.adapters.onnx.session import Graph, execution_of, open_session
from model_container.adapters.onnx.values import check_texts, value_of
from model_container.bodies.content import Content, Named, Rows
from model_container.bodies.numeric_fast_path import plain_rows
from model_container.bodies.problems import Problem
from model_container.bodies.table import LISTED, Column, Table, wrong_columns
from model_container.bodies.values import NEVER
from model_container.contract.config import RuntimeConfig

MAX_SAMPLE_VALUES = 10_000


def load_onnx(config: RuntimeConfig) -> OnnxAdapter:
    """Load an ONNX model.

    Raises onnxruntime's own errors if the file is no model, TypeError for types that JSON cannot carry, and ValueError
    if none of the execution providers is available.
    """
    wanted = wanted_providers(config)
    return OnnxAdapter(open_session(config.artifact, config.threads, wanted), config.threads, wanted)


class OnnxAdapter:
    """Adapter for one ONNX session. threads, wanted: the values that the session was opened with."""

    def __init__(self, session: Any, threads: int = 1, wanted: Sequence[str] = ()) -> None:
        self._session = session
        self._threads = threads
        self._wanted = wanted
        self._graph = Graph(session)
        self._inputs, self._outputs = self._graph.required, self._graph.outputs
        self._input_names = [port.name for port in self._inputs]
        self._output_names = [port.name for port in self._outputs]
        self._scalars = {name for name, port in self._graph.ports.items() if port.kind == TENSOR and not port.shape}
        self.names: FrozenSet[str] = frozenset(self._input_names)
        self.texts = frozenset(port.name for port in self._inputs if port.datatype == "BYTES")
        self._optional = self._graph.ports.keys() - self.names
        self._bf16 = {port.name: "BF16" for port in self._outputs if port.datatype == "BF16"}
        self._rows = probe_batching(self._trial, self._inputs, self._outputs)
        self.joinable = self._rows.joinable
        self._table = _table(self._inputs, self._rows.by_row)
        self.plain = None if self._rows.by_row is False else plain_rows(self._table)
        self.has_probabilities = _is_classifier(self._outputs)
        self.classes: List[Any] = []
        if self.has_probabilities and self._outputs[1].kind == MAPS:
            self._learn_classes()

    def _trial(self, arrays: List[Any]) -> List[Any]:
        return self._run(Inputs(arrays), self._output_names)

    def _learn_classes(self) -> None:
        """Read the class labels from the maps that the model returns; they are stored nowhere else."""
        try:
            maps = self._run(self.inputs(_content(self.samples()[0])), [self._outputs[1].name])[0]
        except Exception as error:
            print(f"prism: the classes are unknown until the first probabilities: {error}")
        else:
            self.classes = list(maps[0])

    def inputs(self, content: Content) -> Inputs:
        if self._table is not None and not self._gives_optional(content):
            return Inputs(self._from_table(content, self._table))
        if isinstance(content, Rows):
            if len(self._inputs) != 1:
                names = ", ".join(repr(port.name) for port in self._inputs)
                raise Problem(
                    422,
                    "wrong_columns",
                    f"The model has the inputs {names}; a list does not say which value belongs to which.",
                    'Send {"inputs": {"name": …}} with a value for each.',
                )
            content = Named({self._inputs[0].name: content.values})
        ports = self._given(content)
        arrays = [value_of(port, content.values[port.name], content.shapes.get(port.name)) for port in ports]
        if self._needs_equal_rows:
            _check_lengths(ports, arrays)
        given = tuple(port.name for port in ports) if len(ports) != len(self._inputs) else ()
        return Inputs(arrays, given, alone=bool(given) or not all(map(len, arrays)))

    def _gives_optional(self, content: Content) -> bool:
        return isinstance(content, Named) and not self._optional.isdisjoint(content.values)

    def _given(self, content: Named) -> List[Port]:
        """Return the inputs that the request gives, in the graph's order.

        Raises Problem if one is missing or unknown.
        """
        values, optional = content.values, self._optional
        others = [name for name in values if name not in optional]
        if self.names != set(others):
            raise wrong_columns([port.name for port in self._inputs], others)
        left_out = {name for name in optional if values.get(name) is None}
        return [port for name, port in self._graph.ports.items() if name not in left_out]

    @property
    def _needs_equal_rows(self) -> bool:
        """Return whether all inputs must have the same number of rows."""
        return self.joinable or (len(self._inputs) > 1 and all(port.rows == 1 for port in self._inputs))

    def _from_table(self, content: Content, table: Table) -> List[Any]:
        if isinstance(content, Named) and not table.named and content.values.keys() == {self._inputs[0].name}:
            (value,) = content.values.values()
            if not content.has_no_rows:
                content = Rows(value if isinstance(value, LISTED) else [value])
        arrays = table.arrays(content)
        for port, array in zip(self._inputs, arrays):
            check_texts(port.name, array)
        return self._fitted(arrays)

    def plain_inputs(self, matrix: Any) -> Inputs:
        return Inputs(self._fitted([matrix]))

    def _fitted(self, arrays: List[Any]) -> List[Any]:
        """Reshape a table's columns to the graph's inputs."""
        if len(self._inputs) == 1 and arrays[0].ndim == len(self._inputs[0].shape):
            return [np.ascontiguousarray(arrays[0])]
        if len(self._inputs) > 1 and len(arrays) == 1:
            arrays = list(arrays[0].T)
        rows = len(arrays[0])
        return [np.ascontiguousarray(array).reshape(_filled(port, rows)) for port, array in zip(self._inputs, arrays)]

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        names = self._output_names if probabilities or not self.has_probabilities else self._output_names[:1]
        results = self._run_rows(inputs, names) if self._runs_apart(inputs) else self._run(inputs, names)
        if probabilities:
            return Outputs({names[0]: results[0]}, probabilities=[self._shares(results[1])])
        by_row = self._rows.by_row
        if by_row is None:
            by_row = all(_length(value) == inputs.rows for value in results)
        return Outputs(dict(zip(names, results)), len(names) > 1, by_row=by_row, datatypes=self._bf16)

    def _runs_apart(self, inputs: Inputs) -> bool:
        """Return whether several rows must be run one at a time, since the graph takes only one."""
        return not (self.joinable or inputs.names) and all(port.rows == 1 for port in self._inputs) and inputs.rows > 1

    def _run_rows(self, inputs: Inputs, names: List[str]) -> List[Any]:
        single = [
            self._run(Inputs([array[row : row + 1] for array in inputs.arrays]), names) for row in range(inputs.rows)
        ]
        return [_concatenated(list(values)) for values in zip(*single)]

    def _shares(self, output: Any) -> Any:
        if isinstance(output, np.ndarray):
            return output
        self.classes = self.classes or list(output[0])
        return np.array([[row[label] for label in self.classes] for row in output])

    def _run(self, inputs: Inputs, names: List[str]) -> List[Any]:
        given = inputs.names or self._input_names
        feed = dict(zip(given, inputs.arrays))
        for name in self._scalars.intersection(given):
            feed[name] = feed[name].reshape(feed[name].shape[1:])
        return self._graph.run(feed, names)

    def signature(self) -> Dict[str, Any]:
        named = self._table is not None and self._table.named
        outputs = [port.described() for port in self._outputs]
        if self.has_probabilities:
            shares = self._outputs[1]
            width = shares.sizes()[-1] if shares.kind == TENSOR else len(self.classes) or -1
            outputs[1] = tensor(PROBABILITIES, shares.datatype, [-1, width])
        return {
            "kind": "table" if named else "tensors",
            "inputs": [port.described() for port in self._graph.declared],
            "outputs": outputs,
            "named": named,
            "methods": ["predict", "predict_proba"] if self.has_probabilities else ["predict"],
            "classes": self.classes,
        }

    def execution(self) -> Dict[str, Any]:
        return execution_of(self._session, self._threads, self.joinable, self._wanted)

    def samples(self) -> List[Any]:
        inner = self._rows.inner_size
        sizes = [
            [
                1 if size is None and not axis else inner if size is None else size
                for axis, size in enumerate(port.shape)
            ]
            for port in self._inputs
        ]
        if sum(int(np.prod(size)) for size in sizes) > MAX_SAMPLE_VALUES:
            return [self._sample(sizes, 0)]
        return [self._sample(sizes, 1), self._sample(sizes, 0)]

    def _sample(self, sizes: List[List[int]], number: int) -> Any:
        values = {port.name: _sample_value(port, size, number) for port, size in zip(self._inputs, sizes)}
        if self._table is None:
            return {"inputs": values}
        if self._table.named:
            return {name: np.ravel(value).tolist()[0] for name, value in values.items()}
        return {"features": next(iter(values.values()))}


def _table(inputs: List[Port], by_row: Optional[bool]) -> Optional[Table]:
    if not inputs or any(not port.is_joinable for port in inputs):
        return None
    first = inputs[0]
    if all(port.shape[1:] in ((), (1,)) for port in inputs) and by_row is not False:
        return Table([Column(port.name, port.datatype, NEVER) for port in inputs], named=True, infinite=True)
    if len(inputs) == 1 and len(first.shape) == 2 and first.shape[1]:
        columns = [Column(f"feature{index + 1}", first.datatype, NEVER) for index in range(first.shape[1])]
        return Table(columns, named=False, infinite=True)
    return None


def _filled(port: Port, rows: int) -> Tuple[int, ...]:
    return (rows, *(cast(int, size) for size in port.shape[1:]))


def _is_classifier(outputs: List[Port]) -> bool:
    """Return whether the outputs are a label and probabilities, as maps (ZipMap) or as a matrix, like a converted
    classifier.
    """
    if len(outputs) != 2:
        return False
    labels, shares = outputs
    if labels.kind != TENSOR or labels.datatype not in ("INT64", "BYTES") or len(labels.shape) > 1:
        return False
    return shares.kind == MAPS or (len(shares.shape) == 2 and "prob" in shares.name.lower())


def _check_lengths(ports: List[Port], arrays: List[Any]) -> None:
    lengths = {port.name: len(array) for port, array in zip(ports, arrays) if not port.optional}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise Problem(422, "ragged_rows", f"The inputs differ in their number of rows: {listing}.", lengths=lengths)


def _content(sample: Any) -> Content:
    if "features" in sample:
        return Rows(sample["features"])
    return Named(sample.get("inputs", sample))


def _sample_value(port: Port, sizes: List[int], number: int) -> Any:
    filler: Any = bool(number) if port.datatype == "BOOL" else number
    if port.datatype == "BYTES":
        filler = "a" if number else "0"
    if port.kind == TENSOR:
        return np.full(sizes, filler, dtype=object).tolist()
    return [[filler]] if port.kind != MAP else {"a" if port.keys == "BYTES" else str(number): filler}


def _length(value: Any) -> Optional[int]:
    is_sized = isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return len(value) if is_sized else None


def _concatenated(parts: List[Any]) -> Any:
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return np.concatenate([np.atleast_1d(part) for part in parts])
