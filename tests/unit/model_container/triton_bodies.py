"""Bodies as Triton's own client writes and reads them, asked of a batcher as the gateway does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import np_to_triton_dtype

from model_container.adapters.base import Adapter
from model_container.batch import Batcher
from model_container.contract.frames import DIALECT_V2_BINARY, FORM_V2, FORM_V2_BINARY, JSON_LENGTH, Answer, Request


def body(
    arrays: Mapping[str, Any],
    *,
    binary: bool = True,
    outputs: Sequence[InferRequestedOutput] | None = None,
    request_id: str = "",
) -> bytes:
    """Return a body in the format of frames.DIALECT_V2_BINARY. arrays: by input name, each with the dtype that is sent.

    outputs: all, in binary, if it does not say which.
    """
    inputs = []
    for name, array in arrays.items():
        one = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(one.set_data_from_numpy(array, binary_data=binary))
    made, json_size = InferenceServerClient.generate_request_body(inputs, outputs=outputs, request_id=request_id)
    return marked(made, json_size)


def marked(made: bytes, json_size: int | None = None) -> bytes:
    return JSON_LENGTH.pack(len(made) if json_size is None else json_size) + made


def answers(target: Batcher | Adapter, *bodies: bytes) -> list[Answer]:
    """Return the answers to one batch."""
    target = target if isinstance(target, Batcher) else Batcher(target)
    return list(target.run([Request(one, DIALECT_V2_BINARY) for one in bodies])[0])


def read(answer: Answer) -> InferResult:
    assert answer.status == 200, answer.body
    if answer.form == FORM_V2:
        return InferResult.from_response_body(answer.body)
    assert answer.form == FORM_V2_BINARY
    start = JSON_LENGTH.size
    return InferResult.from_response_body(answer.body[start:], header_length=JSON_LENGTH.unpack_from(answer.body)[0])


def infer(target: Batcher | Adapter, made: bytes) -> InferResult:
    return read(answers(target, made)[0])


def problem(target: Batcher | Adapter, made: bytes) -> dict[str, Any]:
    (answer,) = answers(target, made)
    assert answer.status in (400, 422), answer
    document: dict[str, Any] = json.loads(answer.body)
    return document


def objects(*items: Any) -> Any:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
