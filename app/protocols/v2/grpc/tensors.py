"""Converts ModelInfer's messages to and from the runtime's form: V2 JSON followed by the tensors' bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from app.core.foreign_json import ForeignJsonError, read_json
from app.dispatch.request import AwaitableRequest, Reply
from app.dispatch.response import answer_body
from app.dispatch.v2 import parted
from app.errors import BadInput, ReplicaProtocolError
from app.protocols.v2.grpc.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from model_container.contract import frames

_LENGTH = struct.Struct("<I")
_CONTENTS = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
    "BYTES": ("bytes_contents", ""),
}
"""By datatype: the field of InferTensorContents that holds its values, and struct's format character for them."""

HEAD_BYTES_MAX = 1 << 20
"""The largest JSON part of an answer. It names and describes tensors; their values come in binary, as was requested."""

Tensor = ModelInferRequest.InferInputTensor


def body(request: ModelInferRequest) -> bytes:
    """Encode a request as frames.DIALECT_V2_BINARY describes; every output is requested in binary. Raises BadInput."""
    inputs, raws = [], []
    for tensor, raw in zip(request.inputs, raw_values(request), strict=True):
        described: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        described_parameters = {**parameters(tensor.parameters), "binary_data_size": len(raw)}
        inputs.append({**described, "parameters": described_parameters})
        raws.append(raw)
    document: dict[str, Any] = {
        "inputs": inputs,
        "parameters": {**parameters(request.parameters), "binary_data_output": True},
    }
    if request.id:
        document["id"] = request.id
    if request.outputs:
        document["outputs"] = [asked_output(output) for output in request.outputs]
    head = msgspec.json.encode(document)
    return b"".join((frames.JSON_LENGTH.pack(len(head)), head, *raws))


def asked_output(output: ModelInferRequest.InferRequestedOutputTensor) -> dict[str, Any]:
    return {"name": output.name, "parameters": {**parameters(output.parameters), "binary_data": True}}


def raw_values(request: ModelInferRequest) -> list[bytes]:
    """Return each input's values as bytes: its raw_input_contents, or its packed contents. Raises BadInput."""
    raws = request.raw_input_contents
    if not raws:
        return [packed(tensor) for tensor in request.inputs]
    named = next((tensor.name for tensor in request.inputs if tensor.HasField("contents")), None)
    if named is not None:
        raise BadInput(
            f"Input `{named[:100]}` has contents, but the request has raw_input_contents.", hint="Use only one of them."
        )
    if len(raws) != len(request.inputs):
        raise BadInput(
            f"There are {len(request.inputs)} inputs and {len(raws)} raw_input_contents.",
            hint="Send one for each input, in their order; this server does not support shared memory.",
        )
    return list(raws)


def packed(tensor: Tensor) -> bytes:
    """Pack the contents as little-endian bytes. Raises BadInput for values that are not of the tensor's datatype."""
    name, datatype = tensor.name[:100], tensor.datatype[:100]
    if datatype not in _CONTENTS:
        raise BadInput(
            f"The field contents does not support the datatype `{datatype}` of input `{name}`.",
            hint=f"It supports {', '.join(_CONTENTS)}; send others as raw_input_contents.",
        )
    field, letter = _CONTENTS[datatype]
    other = next(
        (descriptor.name for descriptor, _ in tensor.contents.ListFields() if descriptor.name != field),
        None,
    )
    if other is not None:
        raise BadInput(f"Input `{name}` of {datatype} has its values in {other}.", hint=f"Put them in {field}.")
    values = getattr(tensor.contents, field)
    if not letter:
        return b"".join(part for text in values for part in (_LENGTH.pack(len(text)), text))
    try:
        return struct.pack(f"<{len(values)}{letter}", *values)
    except struct.error as error:
        raise BadInput(f"Input `{name}` has a value that is not {datatype}: {error}.") from None


def parameters(given: Mapping[str, InferParameter]) -> dict[str, Any]:
    """Convert parameters to JSON values, leaving out those without a value."""
    chosen = {name: (parameter, parameter.WhichOneof("parameter_choice")) for name, parameter in given.items()}
    return {name: getattr(parameter, choice) for name, (parameter, choice) in chosen.items() if choice is not None}


def response(request: AwaitableRequest, reply: Reply) -> ModelInferResponse:
    """Convert an answer in a V2 form, with its outputs as raw_output_contents.

    Raises ReplicaProtocolError if it is no valid V2 answer.
    """
    try:
        return _response(request, reply)
    except (ForeignJsonError, LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ReplicaProtocolError.of(f"its answer is not a V2 answer, {type(error).__name__}") from None


def _response(request: AwaitableRequest, reply: Reply) -> ModelInferResponse:
    head, raw = parted(reply) if reply.form == frames.FORM_V2_BINARY else (reply, memoryview(b""))
    if len(head.body) > HEAD_BYTES_MAX:
        raise ValueError("its JSON has no tensors in binary")
    document = read_json(answer_body(request, head, ""), dict[str, Any])
    answer = ModelInferResponse(
        model_name=document["model_name"], model_version=document["model_version"], id=document.get("id", "")
    )
    position = 0
    for tensor in document["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        if not 0 <= size <= len(raw) - position:
            raise ValueError("a tensor has more bytes than there are")
        answer.outputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        answer.raw_output_contents.append(bytes(raw[position : position + size]))
        position += size
    return answer
