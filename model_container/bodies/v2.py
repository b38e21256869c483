"""Requests of the Open Inference Protocol V2, whose tensors are in the JSON or follow it as binary data."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from model_container.bodies.binary import array_from
from model_container.bodies.content import Decoded, Named
from model_container.bodies.json_body import parse
from model_container.bodies.problems import Problem, shown
from model_container.bodies.values import ANY, DTYPES
from model_container.contract.frames import FORM_V2, JSON_LENGTH

_KEYS = frozenset(("model_name", "model_version", "id", "parameters", "inputs", "outputs"))
_MAX_RANK = 32  # limit of numpy 1
_MAX_EMPTY = 1 << 24
"""Largest product of the other sizes of a tensor without values: what a model makes of them must fit in memory."""
_NOT_OFFERED = {
    "shared_memory_region": "shared memory",
    "classification": "classification",
}


def decode(body: bytes, signature: Callable[[], Mapping[str, Any]]) -> Decoded:
    """Decode a V2 request. body: as described at frames.DIALECT_V2_BINARY. signature: returns the model's signature.

    Raises Problem.
    """
    start = JSON_LENGTH.size
    end = start + JSON_LENGTH.unpack_from(body)[0]
    if end == start and len(body) > start:
        return _decode_raw(body[start:], signature()["inputs"])
    request = parse(body[start:end], lenient=True)
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise _wrong(
            'The body has no "inputs", a list of tensors.', 'Send {"inputs": [{"name", "shape", "datatype", "data"}]}.'
        )
    return decode_request(request, body[end:])


def decode_request(request: Dict[str, Any], behind: bytes = b"") -> Decoded:
    """Decode a parsed V2 request. request: has a list of inputs. behind: the binary tensors. Raises Problem."""
    extra = sorted(set(request) - _KEYS)
    if extra:
        raise Problem(422, "unknown_keys", f"Unknown keys: {', '.join(map(shown, extra))}.", unknown=extra)
    values: Dict[str, Any] = {}
    shapes: Dict[str, Tuple[int, ...]] = {}
    position = 0
    for tensor in request["inputs"]:
        name, datatype, shape = _head(tensor)
        if name in values:
            raise Problem(422, "wrong_columns", f"Two inputs are named {shown(name)}.")
        size = _binary_size(tensor, name)
        if size is None:
            values[name] = _nested(name, list(shape), tensor.get("data"))
        else:
            raw = behind[position : position + size]
            position += size
            values[name] = _from_bytes(name, datatype, shape, raw)
        shapes[name] = shape
    if position != len(behind):
        raise Problem(
            400,
            "wrong_binary_size",
            f"After the JSON come {len(behind)} bytes, but its binary_data_size values add up to {position}.",
            "Inference-Header-Content-Length counts only the bytes of the JSON.",
        )
    outputs, binary = _outputs(request.get("outputs"))
    identity, parameters = request.get("id"), _parameters(request)
    return Decoded(
        Named(values, shapes),
        FORM_V2,
        None if identity is None else str(identity),
        outputs,
        binary,
        parameters.get("binary_data_output") is True,
    )


def _head(tensor: Any) -> Tuple[str, str, Tuple[int, ...]]:
    """Return the name, datatype and shape of an input."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise _wrong(f'"inputs" holds {shown(tensor)}, which is not a tensor with a name.')
    name, datatype, shape = tensor["name"], tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise Problem(
            422,
            "wrong_datatype",
            f"Input {name!r} has the unknown datatype {shown(datatype)}.",
            f"Use one of {', '.join(DTYPES)}.",
        )
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(shape, list) or not sizes or len(shape) > _MAX_RANK:
        raise _misshapen(f"Input {name!r} has the shape {shown(shape)}, not a list of up to {_MAX_RANK} sizes.")
    if 0 in shape and math.prod(size for size in shape if size) > _MAX_EMPTY:
        raise _misshapen(f"Input {name!r} has the shape {shown(shape)}: no values, but other sizes that are too large.")
    return name, datatype, tuple(shape)


def _parameters(owner: Dict[str, Any]) -> Dict[str, Any]:
    """Return the parameters of a request, an input or an output. Unknown parameters are ignored."""
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _wrong(f'"parameters" holds {shown(parameters)}, not an object.')
    refused = next((words for key, words in _NOT_OFFERED.items() if key in parameters), None)
    if refused is not None:
        raise Problem(
            422, "not_offered", f"This server does not support {refused}.", "Its metadata, at /v2, list its extensions."
        )
    return parameters


def _binary_size(tensor: Dict[str, Any], name: str) -> Optional[int]:
    """Return the size of the tensor's binary data in bytes; None if its values are in the JSON."""
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise _wrong(f"Input {name!r} has the binary_data_size {shown(size)}, not a number of bytes.")
    if "data" in tensor:
        raise _wrong(f'Input {name!r} has both "data" and a binary_data_size.', "Leave one of them out.")
    return size


def _from_bytes(name: str, datatype: str, shape: Tuple[int, ...], raw: bytes) -> Any:
    """Decode binary data like _nested, except that values of one dimension or more are returned as an array."""
    array = array_from(raw, name, datatype, shape)
    if not array.size:
        return []
    return array if shape else array.item()


def _nested(name: str, shape: List[int], data: Any) -> Any:
    """Return the data, flat or nested, as nested lists of that shape: [] if it is empty, a bare value if the shape is
    [].
    """
    if not isinstance(data, list):
        raise _misshapen(f'Input {name!r} has no list "data".', 'Put the values in "data".')
    flat = data
    while flat and all(isinstance(item, list) for item in flat):
        flat = [leaf for item in flat for leaf in item]
    if len(flat) != math.prod(shape):
        raise _misshapen(
            f"Input {name!r} of shape {shape} needs {math.prod(shape)} values, but its data has {len(flat)}."
        )
    if not flat:
        return []
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat if shape else flat[0]


def _outputs(given: Any) -> Tuple[Optional[List[str]], Dict[str, bool]]:
    """Return the requested names, None for all; and for each output with a binary_data parameter, its value."""
    if given is not None and not isinstance(given, list):
        raise _wrong('"outputs" is not a list.')
    binary: Dict[str, bool] = {}
    for output in given or ():
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise _wrong(f'"outputs" holds {shown(output)}, which is not an object with a "name".')
        flag = _parameters(output).get("binary_data")
        if flag is not None:
            binary[output["name"]] = flag is True
    return [output["name"] for output in given] if given else None, binary


def _decode_raw(raw: bytes, inputs: Sequence[Mapping[str, Any]]) -> Decoded:
    """Decode a request without JSON: its bytes are the model's only input, or the matrix of all its columns.

    A text comes without a length in front.
    """
    datatypes = {"FP64" if tensor["datatype"] == ANY else tensor["datatype"] for tensor in inputs}
    shape = _raw_shape(inputs)
    if len(datatypes) != 1 or shape is None or shape.count(-1) > 1:
        raise Problem(
            400,
            "raw_not_possible",
            "The request has no JSON, and its bytes alone do not determine the names and shapes of the model's inputs.",
            "Put the JSON of the request in front, and its length in Inference-Header-Content-Length.",
        )
    (datatype,) = datatypes
    if datatype == "BYTES":
        raw, count = JSON_LENGTH.pack(len(raw)) + raw, 1
    else:
        count = len(raw) // (2 if datatype == "BF16" else DTYPES[datatype].itemsize)
    others = math.prod(size for size in shape if size != -1)
    sizes = tuple((count // others if others else 0) if size == -1 else size for size in shape)
    name = inputs[0]["name"] if len(inputs) == 1 else "input"
    return Decoded(Named({name: _from_bytes(name, datatype, sizes, raw)}, {name: sizes}), FORM_V2)


def _raw_shape(inputs: Sequence[Mapping[str, Any]]) -> Optional[List[int]]:
    """Return the shape of a request without JSON, with -1 for a size that follows from the number of bytes."""
    if len(inputs) == 1:
        return list(inputs[0]["shape"])
    if inputs and all(list(tensor["shape"]) in ([-1], [-1, 1]) for tensor in inputs):
        return [-1, len(inputs)]
    return None


def _wrong(detail: str, hint: str = "") -> Problem:
    return Problem(422, "unknown_dialect", detail, hint)


def _misshapen(detail: str, hint: str = "") -> Problem:
    return Problem(422, "wrong_shape", detail, hint)
