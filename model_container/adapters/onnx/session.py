"""Session of onnxruntime: its execution providers, inputs and outputs, and one run of its graph."""

from __future__ import annotations

import ctypes
import re
from typing import Any, Dict, List, Sequence, Union, cast

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from onnxruntime.capi import onnxruntime_pybind11_state as states  # type: ignore[import-untyped]

from model_container.adapters.onnx.ports import MAPS, TENSOR, Port, port
from model_container.adapters.onnx.providers import open_on, passed_over
from model_container.bodies.binary import bf16_bits

_BF16 = 16  # TensorProto.DataType.BFLOAT16
_FATAL = 4
# A graph is a function of its inputs, so a failure is the input's fault. onnxruntime raises a plain RuntimeError when
# it converts Python values.
_REFUSALS = (states.InvalidArgument, states.Fail, states.RuntimeException, states.NotImplemented, RuntimeError)
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Non-zero status code returned while running |"
    r"(?<=node)\. Name:'[^']*' Status Message|\S+\.(?:cc|h):\d+ "
)


def open_session(model: Union[str, bytes], threads: int, wanted: Sequence[str] = ()) -> Any:
    """Open a session. model: path of a file, or its content. wanted: execution providers.

    Raises ValueError if none of them is available.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise idle pool threads would spin and use up CPU time that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return open_on(model, options, wanted)


def execution_of(session: Any, threads: int, joinable: bool, wanted: Sequence[str] = ()) -> Dict[str, Any]:
    """Return the execution providers that started, those wanted that did not, and the session's threads."""
    facts = {"execution_providers": list(session.get_providers()), "threads": threads, "joins_requests": joinable}
    missed = passed_over(session, wanted)
    return {**facts, "passed_over": missed} if missed else facts


class Graph:
    """Graph of a session. required: the inputs that each run needs. declared: these and the optional inputs.
    ports: by name, these and the inputs that have a default.

    Raises TypeError for types that a request or an answer cannot carry.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = _FATAL  # a run's error goes to the client, not to the log as well
        self.declared = [port(node) for node in session.get_inputs()]
        self.required = [argument for argument in self.declared if not argument.optional]
        self.outputs = [port(node) for node in session.get_outputs()]
        for raw, argument in zip(session.get_inputs(), self.declared):
            if not argument.datatype or argument.kind == MAPS:
                raise TypeError(
                    f"input {argument.name!r} is of type {raw.type}, which a request cannot contain; {_REMEDY}"
                )
        for raw, output in zip(session.get_outputs(), self.outputs):
            if not output.datatype:
                raise TypeError(
                    f"output {output.name!r} is of type {raw.type}, which an answer cannot contain; {_REMEDY}"
                )
        defaults = [port(node, optional=True) for node in session.get_overridable_initializers()]
        defaults = [default for default in defaults if default.datatype not in ("", "BF16")]
        self.ports = {argument.name: argument for argument in (*self.declared, *defaults)}
        self._has_bf16 = any(argument.datatype == "BF16" for argument in (*self.declared, *self.outputs))
        if self._has_bf16:
            _check_bf16(self.declared, self.outputs)

    def run(self, feed: Dict[str, Any], outputs: List[str]) -> List[Any]:
        """Run the graph. feed: arrays, lists of arrays or dicts by input.

        Raises ValueError with onnxruntime's message.
        """
        try:
            if self._has_bf16:
                return self._run_values(feed, outputs)
            return cast(List[Any], self._session.run(outputs, feed, self._options))
        except _REFUSALS as error:
            raise ValueError(_NOISE.sub("", str(error))) from error

    def _run_values(self, feed: Dict[str, Any], outputs: List[str]) -> List[Any]:
        """Run a graph with bfloat16 tensors, which are passed as raw bits because numpy has no bfloat16."""
        make = onnxruntime.OrtValue.ortvalue_from_numpy
        make_bf16 = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
        values = {
            name: make_bf16(bf16_bits(array), _BF16) if self.ports[name].datatype == "BF16" else make(array)
            for name, array in feed.items()
        }
        results = self._session.run_with_ort_values(outputs, values, self._options)
        return [_from_bf16(value) if "bfloat16" in value.data_type() else value.numpy() for value in results]


_REMEDY = "cast it inside the graph"


def _check_bf16(inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Check that bfloat16 is possible. Raises TypeError if it is not.

    It needs OrtValues, which Python can only create from numbers and only read from tensors.
    """
    if not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        raise TypeError(f"bfloat16 needs a newer onnxruntime than {onnxruntime.__version__}; 1.20 has it")
    others = [port for port in (*inputs, *outputs) if port.kind != TENSOR]
    others += [port for port in inputs if port.datatype == "BYTES"]
    if others:
        raise TypeError(
            f"onnxruntime does not support bfloat16 together with {others[0].name!r}, which is not a tensor of numbers"
        )


def _from_bf16(value: Any) -> Any:
    """Convert an OrtValue of bfloat16 to the same numbers as float32."""
    shape = value.shape()
    raw = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape))) if 0 not in shape else b""
    return (np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
