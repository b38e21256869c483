"""ONNX models through onnxruntime, on the CPU.

The graph's inputs decide how a request is read:

    every input (rows,) or (rows, 1)    a table with named columns, as skl2onnx makes of a DataFrame's
    one input (rows, k)                 a table of k columns without names
    anything else                       tensors by name, with or without their first dimension
"""

from __future__ import annotations

import ctypes
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple, Union, cast

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument  # type: ignore[import-untyped]

from model_container.adapters.base import PROBABILITIES, Inputs, Outputs, tensor
from model_container.config import RuntimeConfig
from model_container.dialects import Content, Named, Rows, no_rows
from model_container.plain import plain_rows
from model_container.problems import Problem
from model_container.table import Column, Table, wrong_columns
from model_container.values import ANY, Place, array_of

MAX_SAMPLE_VALUES = 10_000

_DATATYPES = {
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    **{f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_BF16 = 16  # TensorProto.DataType.BFLOAT16


class Port(NamedTuple):
    """One input or output of the graph. shape: None is a variable dimension. datatype: "" for sequences and maps."""

    name: str
    datatype: str
    shape: Tuple[Optional[int], ...]

    @property
    def rows(self) -> Optional[int]:
        """The fixed number of rows, None if any."""
        return self.shape[0] if self.shape else 1

    def sizes(self) -> List[int]:
        return [-1 if size is None else size for size in self.shape]


def load_onnx(config: RuntimeConfig) -> OnnxAdapter:
    """Raises onnxruntime's own errors for a file that is no model, TypeError for inputs that JSON cannot fill."""
    return OnnxAdapter(open_session(config.artifact, config.threads))


def open_session(model: Union[str, bytes], threads: int) -> Any:
    """model: path of a file, or its content."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle pool threads would spin through the processor share that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxAdapter:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [_port(one) for one in session.get_inputs()]
        self._outputs = [_port(one) for one in session.get_outputs()]
        for one, given in zip(self._inputs, session.get_inputs()):
            if not one.datatype:
                raise TypeError(f"input {one.name!r} is of type {given.type}, which a request cannot fill")
        if not self._inputs:
            raise TypeError("the model has no inputs")
        self.names: FrozenSet[str] = frozenset(one.name for one in self._inputs)
        tensors = [*self._inputs, *(one for one in self._outputs if one.datatype)]
        self.joinable = all(one.shape and one.shape[0] is None for one in tensors)
        self._table = _table(self._inputs)
        self.plain = plain_rows(self._table)
        self._needs_values = any(one.datatype == "BF16" for one in tensors)
        if self._needs_values and not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
            raise TypeError(f"bfloat16 needs a newer onnxruntime than {onnxruntime.__version__}; 1.20 has it")
        self.has_probabilities = _is_classifier(self._outputs)
        self.classes: List[Any] = []
        if self.has_probabilities and not self._outputs[1].datatype:
            self._learn_classes()

    def _learn_classes(self) -> None:
        """The labels are written nowhere but in the maps that the model returns."""
        try:
            sample = self.inputs(_content(self.samples()[0]))
            maps = self._run(sample.arrays, [self._outputs[1].name])[0]
        except Exception as error:
            print(f"prism: the classes are unknown until the first probabilities: {error}")
        else:
            self.classes = list(maps[0])

    def inputs(self, content: Content) -> Inputs:
        if self._table is not None:
            return Inputs(self._from_table(content, self._table))
        if isinstance(content, Rows):
            if len(self._inputs) > 1:
                names = ", ".join(repr(one.name) for one in self._inputs)
                raise Problem(
                    422,
                    "wrong_columns",
                    f"The model has the inputs {names}; a list does not say which is which.",
                    'Send {"inputs": {"name": …}} with a value for each.',
                )
            content = Named({self._inputs[0].name: content.values})
        if content.values.keys() != self.names:
            raise wrong_columns([one.name for one in self._inputs], list(content.values))
        arrays = [_tensor(one, content.values[one.name]) for one in self._inputs]
        lengths = {one.name: len(array) for one, array in zip(self._inputs, arrays) if one.shape}
        if self.joinable and len(set(lengths.values())) > 1:
            listing = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
            raise Problem(422, "ragged_rows", f"The inputs differ in their number of rows: {listing}.", lengths=lengths)
        return Inputs(arrays)

    def _from_table(self, content: Content, table: Table) -> List[Any]:
        if isinstance(content, Named) and not table.named and content.values.keys() == self.names:
            (value,) = content.values.values()
            content = Rows(value if isinstance(value, list) else [value])
        return self._fitted(table.arrays(content))

    def plain_inputs(self, matrix: Any) -> Inputs:
        return Inputs(self._fitted([matrix]))

    def _fitted(self, arrays: List[Any]) -> List[Any]:
        """Columns of a table in the shapes of the graph's inputs."""
        if len(self._inputs) == 1 and arrays[0].ndim == len(self._inputs[0].shape):
            return [np.ascontiguousarray(arrays[0])]
        if len(self._inputs) > 1 and len(arrays) == 1:
            arrays = list(arrays[0].T)
        rows = len(arrays[0])
        return [np.ascontiguousarray(array).reshape(_filled(one, rows)) for one, array in zip(self._inputs, arrays)]

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        wanted = self._outputs
        if self.has_probabilities:
            wanted = self._outputs if probabilities else self._outputs[:1]
        names = [one.name for one in wanted]
        if not self.joinable and inputs.rows > 1 and all(one.rows == 1 for one in self._inputs):
            single = [self._run([array[row : row + 1] for array in inputs.arrays], names) for row in range(inputs.rows)]
            results = [_concatenated(list(values)) for values in zip(*single)]
        else:
            results = self._run(inputs.arrays, names)
        if probabilities:
            return Outputs({names[0]: results[0]}, probabilities=[self._shares(results[1])])
        by_row = self.joinable or all(_length(value) == inputs.rows for value in results)
        return Outputs(dict(zip(names, results)), named=len(names) > 1, by_row=by_row)

    def _shares(self, output: Any) -> Any:
        if isinstance(output, np.ndarray):
            return output
        self.classes = self.classes or list(output[0])
        return np.array([[row[label] for label in self.classes] for row in output])

    def _run(self, arrays: List[Any], names: List[str]) -> List[Any]:
        feed = {one.name: array if one.shape else array.reshape(()) for one, array in zip(self._inputs, arrays)}
        try:
            if self._needs_values:
                return self._run_values(feed, names)
            return cast(List[Any], self._session.run(names, feed))
        except InvalidArgument as error:
            raise ValueError(str(error).split(" : ")[-1]) from error

    def _run_values(self, feed: Dict[str, Any], names: List[str]) -> List[Any]:
        """numpy knows no bfloat16, so its tensors go in and out as their bits."""
        values = {}
        for one in self._inputs:
            array = feed[one.name]
            if one.datatype == "BF16":
                values[one.name] = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(_bf16_bits(array), _BF16)
            else:
                values[one.name] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        results = self._session.run_with_ort_values(names, values)
        return [_from_bf16(value) if "bfloat16" in value.data_type() else value.numpy() for value in results]

    def signature(self) -> Dict[str, Any]:
        named = self._table is not None and self._table.named
        outputs = [tensor(one.name, one.datatype or ANY, one.sizes() or [-1]) for one in self._outputs]
        if self.has_probabilities:
            shares = self._outputs[1]
            width = shares.sizes()[-1] if shares.datatype else len(self.classes) or -1
            outputs[1] = tensor(PROBABILITIES, shares.datatype or "FP32", [-1, width])
        return {
            "kind": "table" if named else "tensors",
            "inputs": [tensor(one.name, one.datatype, one.sizes()) for one in self._inputs],
            "outputs": outputs,
            "named": named,
            "methods": ["predict", "predict_proba"] if self.has_probabilities else ["predict"],
            "classes": self.classes,
        }

    def samples(self) -> List[Any]:
        sizes = [[1 if size is None else size for size in one.shape] for one in self._inputs]
        if sum(int(np.prod(size)) for size in sizes) > MAX_SAMPLE_VALUES:
            return [self._sample(sizes, 0)]
        return [self._sample(sizes, 1), self._sample(sizes, 0)]

    def _sample(self, sizes: List[List[int]], number: int) -> Any:
        values = {
            one.name: np.full(size, _filler(one.datatype, number), dtype=object).tolist()
            for one, size in zip(self._inputs, sizes)
        }
        if self._table is None:
            return {"inputs": values}
        if self._table.named:
            return {name: np.ravel(value).tolist()[0] for name, value in values.items()}
        return {"features": next(iter(values.values()))}


def _port(one: Any) -> Port:
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in one.shape or ())
    return Port(one.name, _DATATYPES.get(one.type, ""), shape)


def _table(inputs: List[Port]) -> Optional[Table]:
    first = inputs[0]
    if all(one.shape and one.shape[0] is None and one.shape[1:] in ((), (1,)) for one in inputs):
        return Table([Column(one.name, one.datatype, None) for one in inputs], named=True)
    if len(inputs) == 1 and len(first.shape) == 2 and first.shape[0] is None and first.shape[1]:
        return Table(
            [Column(f"feature{index + 1}", first.datatype, None) for index in range(first.shape[1])], named=False
        )
    return None


def _filled(one: Port, rows: int) -> Tuple[int, ...]:
    return (rows, *(cast(int, size) for size in one.shape[1:]))


def _is_classifier(outputs: List[Port]) -> bool:
    """Label and probabilities, the latter as maps (ZipMap) or as a matrix: what converted classifiers return."""
    if len(outputs) != 2 or outputs[0].datatype not in ("INT64", "BYTES") or len(outputs[0].shape) > 1:
        return False
    return not outputs[1].datatype or (len(outputs[1].shape) == 2 and "prob" in outputs[1].name.lower())


def _tensor(port: Port, value: Any) -> Any:
    """The array of one input. Its first dimension may be left out for a single row; a scalar's array has one item."""
    rank = len(port.shape)
    array = array_of(value if isinstance(value, list) else [value], port.datatype, _place(port.name), None)
    if not isinstance(value, list) and rank != 1 and rank != 0:
        array = array.reshape((1,) * rank) if all(size in (None, 1) for size in port.shape) else array
    if array.ndim == 1 and rank == 2 and port.shape[1] == 1:
        array = array.reshape(-1, 1)
    elif array.ndim == rank - 1:
        array = array[np.newaxis]
    shape = port.shape or (1,)
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape[1:], array.shape[1:]))
    if fits and shape[0] not in (None, 1, array.shape[0]):
        fits = False
    if not fits:
        raise Problem(
            422,
            "wrong_shape",
            f"Input {port.name!r} has the shape {list(array.shape)}; the model takes {port.sizes()}.",
            "-1 stands for any number; nest the lists accordingly.",
            expected=port.sizes(),
            got=list(array.shape),
        )
    if not array.shape[0]:
        raise no_rows()
    return array


def _place(name: str) -> Place:
    return lambda index: (
        f"Input {name!r}, row {index[0]}" + (f", position {list(index[1:])}" if index[1:] else ""),
        {"input": name, "row": index[0], "position": list(index[1:])},
    )


def _content(sample: Any) -> Content:
    if "features" in sample:
        return Rows(sample["features"])
    return Named(sample.get("inputs", sample))


def _filler(datatype: str, number: int) -> Union[int, bool, str]:
    if datatype == "BYTES":
        return "a"
    return bool(number) if datatype == "BOOL" else number


def _length(value: Any) -> Optional[int]:
    return None if isinstance(value, np.ndarray) and not value.ndim else len(value)


def _concatenated(parts: List[Any]) -> Any:
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return np.concatenate([np.atleast_1d(part) for part in parts])


def _bf16_bits(array: Any) -> Any:
    """Rounded to the nearest, ties to even, as IEEE 754 does."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def _from_bf16(value: Any) -> Any:
    shape = value.shape()
    raw = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape)))
    return (np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
