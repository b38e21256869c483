"""ModelInfer's messages: what goes to the runtime is what was sent, and what comes back is what it answered."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.dispatch.request import AwaitableRequest, Reply
from app.errors import BadInput, ReplicaProtocolError, ReplicaUnavailable
from app.protocols.v2.grpc import tensors
from app.protocols.v2.grpc.inference_pb2 import ModelInferRequest
from app.protocols.v2.grpc.server import address_of
from model_container.bodies import v2
from model_container.bodies.plain_json import encode_json
from model_container.contract.frames import FORM_V2, FORM_V2_BINARY, JSON_LENGTH

FIELDS = {
    "BOOL": ("bool_contents", np.bool_),
    "INT8": ("int_contents", np.int8),
    "INT16": ("int_contents", np.int16),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "UINT8": ("uint_contents", np.uint8),
    "UINT16": ("uint_contents", np.uint16),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
}
SHAPES = npst.array_shapes(max_dims=3, max_side=4)
NAMES = b'{"model_name":"iris","model_version":"1.0.0",'
ARRAYS = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda datatype: st.tuples(st.just(datatype), npst.arrays(FIELDS[datatype][1], SHAPES))
)


def request_of(name: str, datatype: str, shape: Any, **values: Any) -> ModelInferRequest:
    """values: of the one field of contents."""
    request = ModelInferRequest(model_name="iris")
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    for field, each in values.items():
        getattr(tensor.contents, field).extend(each)
    return request


def runtime_reads(request: ModelInferRequest) -> Any:
    """The request as the runtime decodes it."""
    return v2.decode(tensors.body(request), lambda: {"inputs": []})


def reply(document: dict[str, Any], raw: bytes) -> Reply:
    head = encode_json(document)
    return Reply(200, FORM_V2_BINARY, NAMES, JSON_LENGTH.pack(len(head)) + head + raw, "")


def waiting() -> AwaitableRequest:
    return cast(AwaitableRequest, SimpleNamespace(lane=SimpleNamespace(endpoint=SimpleNamespace(name="iris"))))


@given(ARRAYS)
def test_typed_contents_arrive_at_the_runtime_bit_by_bit(sent: tuple[str, Any]) -> None:
    datatype, array = sent
    request = request_of("x", datatype, array.shape, **{FIELDS[datatype][0]: array.ravel().tolist()})

    values = runtime_reads(request).content.values["x"]

    np.testing.assert_array_equal(values, array)


@given(ARRAYS)
def test_raw_contents_arrive_at_the_runtime_bit_by_bit(sent: tuple[str, Any]) -> None:
    datatype, array = sent
    request = request_of("x", datatype, array.shape)
    request.raw_input_contents.append(array.tobytes())

    np.testing.assert_array_equal(runtime_reads(request).content.values["x"], array)


@given(st.lists(st.text(), min_size=1))
def test_texts_arrive_whole(texts: list[str]) -> None:
    request = request_of("x", "BYTES", [len(texts)], bytes_contents=[text.encode() for text in texts])

    assert list(runtime_reads(request).content.values["x"]) == texts


def test_id_parameters_and_requested_outputs_are_handed_on() -> None:
    request = request_of("x", "FP32", [1], fp32_contents=[1.0])
    request.id = "seven"
    request.parameters["priority"].uint64_param = 3
    request.parameters["nothing"].SetInParent()
    request.outputs.add(name="label").parameters["binary_data"].bool_param = False

    body = tensors.body(request)
    document = json.loads(body[JSON_LENGTH.size :][: JSON_LENGTH.unpack_from(body)[0]])
    decoded = runtime_reads(request)

    assert (document["id"], document["parameters"]) == ("seven", {"priority": 3, "binary_data_output": True})
    assert (decoded.outputs, decoded.binary, decoded.all_binary) == (["label"], {"label": True}, True)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (request_of("x", "FP16", [1], fp32_contents=[1.0]), "does not support the datatype `FP16`"),
        (request_of("x", "FP64", [1], fp32_contents=[1.0]), "values in fp32_contents"),
        (request_of("x", "INT8", [1], int_contents=[300]), "has a value that is not INT8"),
        (ModelInferRequest(raw_input_contents=[b"1234"]), "0 inputs and 1 raw_input_contents"),
    ],
    ids=["half", "other field", "too large", "one too many"],
)
def test_contents_that_do_not_form_a_tensor_are_refused(request_: ModelInferRequest, told: str) -> None:
    with pytest.raises(BadInput, match=re.escape(told)):
        tensors.body(request_)


def test_contents_beside_raw_contents_are_refused() -> None:
    request = request_of("x", "FP32", [1], fp32_contents=[1.0])
    request.raw_input_contents.append(b"1234")

    with pytest.raises(BadInput, match="Use only one of them"):
        tensors.body(request)


@given(st.lists(npst.arrays(np.float32, SHAPES), max_size=4))
def test_outputs_come_back_in_their_order_with_their_bytes(arrays: list[Any]) -> None:
    outputs = [
        {"name": str(index), "datatype": "FP32", "shape": each.shape, "parameters": {"binary_data_size": each.nbytes}}
        for index, each in enumerate(arrays)
    ]
    raw = b"".join(each.tobytes() for each in arrays)

    answer = tensors.response(waiting(), reply({"id": "seven", "outputs": outputs}, raw))

    assert (answer.model_name, answer.model_version, answer.id) == ("iris", "1.0.0", "seven")
    assert [tuple(one.shape) for one in answer.outputs] == [each.shape for each in arrays]
    assert list(answer.raw_output_contents) == [each.tobytes() for each in arrays]


def test_an_answer_without_outputs_has_none() -> None:
    answer = tensors.response(waiting(), Reply(200, FORM_V2, NAMES, b'{"outputs":[]}', ""))

    assert not answer.outputs


def test_a_malformed_answer_is_an_error() -> None:
    with pytest.raises(ReplicaUnavailable):
        tensors.response(waiting(), Reply(200, FORM_V2, NAMES, b"nothing", ""))


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.7:5000", "10.0.0.7"), ("ipv6:%5B::1%5D:5000", "::1"), ("ipv6:[::1]:5", "::1"), ("unix:", "unknown")],
)
def test_a_caller_is_known_by_its_address(peer: str, address: str) -> None:
    assert address_of(peer) == address


RAW = {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}


@pytest.mark.parametrize(
    ("document", "raw"),
    [
        ({}, b""),
        ({"outputs": 5}, b""),
        ({"outputs": ["y"]}, b""),
        ({"outputs": [{**RAW, "shape": ["a"]}]}, b"1234"),
        ({"outputs": [{**RAW, "shape": [2**70]}]}, b"1234"),
        ({"outputs": [{**RAW, "name": 1}]}, b"1234"),
        ({"outputs": [RAW]}, b"12"),
        ({"outputs": [{**RAW, "parameters": {"binary_data_size": -1}}]}, b"1234"),
        ({"outputs": [{**RAW, "parameters": {"binary_data_size": "4"}}]}, b"1234"),
        ({"id": 7, "outputs": []}, b""),
    ],
)
def test_a_malformed_answer_is_the_replicas_fault(document: dict[str, Any], raw: bytes) -> None:
    with pytest.raises(ReplicaProtocolError):
        tensors.response(waiting(), reply(document, raw))


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff\xff{}", JSON_LENGTH.pack(5000) + b'{"a":' * 1000])
def test_a_binary_answer_that_cannot_be_split_is_the_replicas_fault(body: bytes) -> None:
    with pytest.raises(ReplicaProtocolError):
        tensors.response(waiting(), Reply(200, FORM_V2_BINARY, NAMES, body, ""))
