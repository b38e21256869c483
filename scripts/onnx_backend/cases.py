"""The ONNX project's backend node tests, and what onnxruntime itself answers to each in memory."""

from __future__ import annotations

import ctypes
import re
import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

CARRIED = {
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    **{f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Datatypes of the Open Inference Protocol, and BF16, which Triton adds, by onnxruntime's names."""
NEEDS_LOCALE = "the operator needs a locale of the system, so the outcome would depend on the machine"
BFLOAT16 = onnx.TensorProto.BFLOAT16


class NotRun(Exception):
    """Why a case cannot be asked: onnxruntime does not run it, or the protocol does not carry its types."""


class Reference(NamedTuple):
    """What onnxruntime answers to a case, by name; types are onnxruntime's own. bfloat16 is kept as float32.

    is_random: it draws numbers, so that a second question to the same session has another answer.
    """

    name: str
    model: bytes
    inputs: dict[str, Any]
    input_types: dict[str, str]
    outputs: dict[str, Any]
    output_types: dict[str, str]
    is_random: bool


@cache
def cases() -> tuple[TestCase, ...]:
    onnxruntime.set_default_logger_severity(4)  # of the models that it refuses, the refusal is enough
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are computed as they are collected, some beyond their range
        return tuple(collect_testcases(None))  # type: ignore[arg-type]


def reference(case: TestCase) -> Reference:
    """Raises NotRun."""
    assert case.model is not None
    assert case.data_sets
    if any(
        attribute.name == "case_change_action" and attribute.s != b"NONE"
        for node in case.model.graph.node
        for attribute in node.attribute
    ):
        raise NotRun(NEEDS_LOCALE)
    session = _session(case.model)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for port in (*inputs, *outputs):
        element = re.sub(r"^(?:optional\(|seq\()*(tensor\(\w+\))\)*$", r"\1", port.type)
        if element not in CARRIED:
            raise NotRun(f"the protocol has no name for {element}")
    given = [_array(value) for value in case.data_sets[0][0]]
    feed = {port.name: value for port, value in zip(inputs, given, strict=True)}
    answers = _run(session, feed)
    return Reference(
        case.name,
        case.model.SerializeToString(),
        {name: _as_float(value) for name, value in feed.items()},
        {port.name: port.type for port in inputs},
        dict(zip([port.name for port in outputs], answers, strict=True)),
        {port.name: port.type for port in outputs},
        # A second answer may still be the first one's: the generator is seeded once more after the first run.
        is_random=any(_differ(*pair) for _ in range(2) for pair in zip(answers, _run(session, feed), strict=True)),
    )


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotRun(_refusal(str(error))) from error


def _refusal(message: str) -> str:
    """onnxruntime's words for a model that it does not load, without what differs from model to model."""
    if match := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", message):
        return f"onnxruntime reads IR versions up to {match[2]}, the model is of {match[1]}"
    if "ValidateOpsetForDomain" in message:
        return "onnxruntime does not know the model's opset yet"
    if any(
        phrase in message for phrase in ("is not a registered function/op", "NOT_IMPLEMENTED", "during initialization")
    ):
        return "onnxruntime has no implementation of the operator, or none for these types or attributes"
    return "onnxruntime finds the model invalid (types that do not agree, attributes that it does not know)"


def _run(session: Any, feed: dict[str, Any]) -> list[Any]:
    try:
        if not any("bfloat16" in port.type for port in (*session.get_inputs(), *session.get_outputs())):
            return list(session.run(None, feed))
        values = {name: _value(array) for name, array in feed.items()}
        return [_from_value(value) for value in session.run_with_ort_values(None, values)]
    except Exception as error:
        raise NotRun("onnxruntime fails at the case's own inputs") from error


def _value(array: Any) -> Any:
    if array.dtype.name == "bfloat16":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _from_value(value: Any) -> Any:
    if value.data_type() != "tensor(bfloat16)":
        return value.numpy()
    shape = value.shape()
    raw = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape)))
    return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value if isinstance(value, list) or value is None else np.asarray(value)


def _differ(first: Any, second: Any) -> bool:
    """Sequences are not looked into: no case draws one."""
    return isinstance(first, np.ndarray) and first.tobytes() != second.tobytes() and first.dtype != object


def _as_float(value: Any) -> Any:
    is_bfloat16 = isinstance(value, np.ndarray) and value.dtype.name == "bfloat16"
    return value.astype(np.float32) if is_bfloat16 else value
