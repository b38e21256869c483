"""Inference by the Open Inference Protocol V2, for the fast path and the routes: what a runtime gets and returns."""

from __future__ import annotations

import re

from msgspec import structs

from app.dispatch.request import PendingRequest, Reply
from app.dispatch.response import answer_body
from app.errors import ReplicaProtocolError
from model_container.contract import frames

INFER = re.compile(rb"/v2/models/([A-Za-z0-9_.@+-]+)(?:/versions/([A-Za-z0-9_.+-]+))?/infer")
JSON = "application/json"
BINARY = "application/octet-stream"
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
"""The header that counts the bytes of the JSON before the binary tensors, in requests and in answers."""


def ref_of(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def json_length_of(value: str, body_bytes: int) -> int | None:
    """Parse the header's value; None if it is no number, or greater than `body_bytes`."""
    length = (
        int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(body_bytes)) else body_bytes + 1
    )
    return length if length <= body_bytes else None


def inference_answer(request: PendingRequest, reply: Reply) -> tuple[bytes, str, dict[str, str]]:
    """Return the answer's body, its content type and its own headers.

    Raises ReplicaProtocolError if it is no valid answer.

    The body is JSON, or JSON followed by the outputs that were requested in binary; a header then gives the length of
    the JSON.
    """
    if reply.form != frames.FORM_V2_BINARY:
        return answer_body(request, reply, ""), JSON, {}
    document, raw = parted(reply)
    head = answer_body(request, document, "")
    return b"".join((head, raw)), BINARY, {JSON_LENGTH_HEADER: str(len(head))}


def parted(reply: Reply) -> tuple[Reply, memoryview]:
    """Split a binary answer into its JSON and the bytes after it.

    Raises ReplicaProtocolError if its length field is invalid.
    """
    start = frames.JSON_LENGTH.size
    end = start + frames.JSON_LENGTH.unpack_from(reply.body)[0] if len(reply.body) >= start else start
    if end > len(reply.body):
        raise ReplicaProtocolError.of("a binary answer is shorter than declared")
    return structs.replace(reply, body=reply.body[start:end]), memoryview(reply.body)[end:]
