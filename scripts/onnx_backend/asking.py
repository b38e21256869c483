"""A case asked of PRISM, as a client would: a JSON body in, a JSON body out, compared value by value.

Numbers are compared exactly: JSON carries every double, and each narrower number is one. What JSON has no number for
comes back as null. A sequence is a tensor of BYTES in V2, each element the JSON of one item.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from app.core.signature import Signature
from model_container.adapters import load
from model_container.contract.config import RuntimeConfig
from model_container.contract.frames import Request
from model_container.runtime import describe
from model_container.server.server import Server
from scripts.onnx_backend.cases import CARRIED, Reference

Ask = Callable[[bytes], tuple[int, Any]]
"""A body to status and answer."""


class Different(AssertionError):
    """PRISM does not answer what onnxruntime answers."""


def served(case: Reference, folder: Path) -> Server:
    """The runtime's own server on the case's model, without a socket. Its signature has been checked."""
    path = folder / f"{case.name}.onnx"
    path.write_bytes(case.model)
    config = RuntimeConfig(str(path), "onnx")
    adapter = load(config)
    welcome = json.loads(msgspec.json.encode(describe(adapter, "onnx", {}, 0.0)))
    _check_signature(case, msgspec.convert(welcome["signature"], Signature))
    return Server(adapter, welcome, "")


def check_in_runtime(case: Reference, folder: Path) -> None:
    """Each dialect alone, then three requests as one batch. Raises Different, whatever goes wrong."""
    try:
        _check_in_runtime(case, folder)
    except Different:
        raise
    except Exception as error:
        raise Different(f"{case.name}: {type(error).__name__}: {error}") from error


def _check_in_runtime(case: Reference, folder: Path) -> None:
    server = served(case, folder)
    for body, check in ((v2_body(case), check_v2), (native_body(case), check_native)):
        if case.is_random:
            server = served(case, folder)
        (alone,), _, _ = server.predict([Request(body)])
        check(case, alone.status, json.loads(alone.body, parse_constant=_refuse))
        together, _, _ = server.predict([Request(body)] * 3)
        if together != [alone] * 3 and not case.is_random:
            raise Different(f"{case.name}: answered otherwise in a batch")


def answers_a_sample(server: Server) -> bool:
    """Whether the model would go live without a sample from its owner."""
    bodies = [json.dumps(sample).encode() for sample in server.welcome["samples"]]
    return any(server.predict([Request(body)])[0][0].status == 200 for body in bodies)


def v2_body(case: Reference) -> bytes:
    inputs = [_tensor(name, value, case.input_types[name]) for name, value in case.inputs.items()]
    return json.dumps({"id": case.name, "inputs": [tensor for tensor in inputs if tensor]}, allow_nan=False).encode()


def _tensor(name: str, value: Any, kind: str) -> dict[str, Any] | None:
    """None for an optional input that is not given."""
    if value is None:
        return None
    if isinstance(value, list):
        items = [json.dumps(_sent(item.tolist()), allow_nan=False) for item in value]
        return {"name": name, "datatype": "BYTES", "shape": [len(items)], "data": items}
    data = _sent(_listed(value.ravel()))
    return {"name": name, "datatype": CARRIED[kind], "shape": list(value.shape), "data": data}


def native_body(case: Reference) -> bytes:
    values = {
        name: _sent([item.tolist() for item in value] if isinstance(value, list) else _listed(value))
        for name, value in case.inputs.items()
        if value is not None
    }
    return json.dumps({"inputs": values} if values else {}, allow_nan=False).encode()


def _listed(array: Any) -> Any:
    """Strings of numpy's own as Python's."""
    return array.astype(object).tolist() if array.dtype.kind == "U" else array.tolist()


def _sent(value: Any) -> Any:
    """Return the value with words in place of numbers that JSON cannot express."""
    if isinstance(value, list):
        return [_sent(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def check_v2(case: Reference, status: int, answer: Any) -> None:
    if status != 200:
        raise Different(f"{case.name}: V2 was answered {status}: {answer}")
    tensors = {tensor["name"]: tensor for tensor in answer["outputs"]}
    if answer["id"] != case.name or tensors.keys() != case.outputs.keys():
        raise Different(f"{case.name}: V2 has the outputs {list(tensors)}, onnxruntime {list(case.outputs)}")
    for name, value in case.outputs.items():
        wanted = _wanted_tensor(name, value, case.output_types[name])
        if tensors[name] != wanted:
            raise Different(f"{case.name}: V2 {_cut(tensors[name])}, onnxruntime {_cut(wanted)}")


def _wanted_tensor(name: str, value: Any, kind: str) -> dict[str, Any]:
    if value is None or isinstance(value, list):
        items = [msgspec.json.encode(_received(item.tolist())).decode() for item in value or []]
        return {"name": name, "datatype": "BYTES", "shape": [len(items)], "data": items}
    data = _received(value.ravel().tolist())
    return {"name": name, "datatype": CARRIED[kind], "shape": list(value.shape), "data": data}


def check_native(case: Reference, status: int, answer: Any) -> None:
    """Its rows may come one by one or the outputs as a whole; the values are the same."""
    if status != 200:
        raise Different(f"{case.name}: the native dialect was answered {status}: {answer}")
    wanted = {name: _native(value) for name, value in case.outputs.items()}
    whole = list(wanted.values()) if len(wanted) == 1 else [wanted]
    by_row: Any = None
    if all(isinstance(value, list) for value in wanted.values()):
        columns = list(wanted.values())
        by_row = (
            columns[0]
            if len(wanted) == 1
            else [dict(zip(wanted, row, strict=False)) for row in zip(*columns, strict=False)]
        )
    if answer["predictions"] not in (whole, by_row):
        raise Different(f"{case.name}: native {_cut(answer['predictions'])}, onnxruntime {_cut(wanted)}")


def _native(value: Any) -> Any:
    if isinstance(value, list):
        return [_received(item.tolist()) for item in value]
    return None if value is None else _received(value.tolist())


def _received(value: Any) -> Any:
    if isinstance(value, list):
        return [_received(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_signature(case: Reference, signature: Signature) -> None:
    for tensors, types, values in (
        (signature.inputs, case.input_types, case.inputs),
        (signature.outputs, case.output_types, case.outputs),
    ):
        if [tensor.name for tensor in tensors] != list(types):
            raise Different(
                f"{case.name}: the signature names {[tensor.name for tensor in tensors]}, the graph {list(types)}"
            )
        for tensor in tensors:
            value = values[tensor.name]
            if not isinstance(value, np.ndarray):
                fits = (tensor.datatype, tensor.shape) == ("BYTES", (-1,))
            else:
                fits = tensor.datatype == CARRIED[types[tensor.name]] and _fits(tensor.shape, value.shape)
            if not fits:
                raise Different(f"{case.name}: the signature says {tensor}")


def _fits(shape: tuple[int, ...], real: tuple[int, ...]) -> bool:
    """A graph may leave out a shape, which then looks like a scalar's."""
    return not shape or (len(shape) == len(real) and all(a in (-1, b) for a, b in zip(shape, real, strict=True)))


def _refuse(word: str) -> Any:
    raise Different(f"the answer holds {word}, which is not JSON")


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) < 400 else text[:400] + "…"
