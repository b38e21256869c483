"""Triton's generate extension: one JSON object of inputs by name; one answer, or one for each item as it is made.

    {"text_input": "…", "parameters": {…}}  →  {"model_name", "model_version", "text_output": "…"}

Inputs go by their names, and what is no input of the model is a parameter, which only a model sees that takes requests
as they were sent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from app.api.asking import JSON, Asking
from app.api.bodies import check_content_type
from app.api.problems import request_id_of
from app.api.streamed import StreamForm
from app.dispatch.inference import ref_of
from app.dispatch.pipeline import Call
from app.dispatch.stream import Stream, named_item
from model_container import frames

_EXAMPLE = {"text_input": "a b", "parameters": {"temperature": 0}}
GENERATE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"type": "object", "additionalProperties": True}, "example": _EXAMPLE}},
    }
}
STREAM_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An event an item: `data:` and an object as `/generate` answers. A failure later on is "
        'an event `{"error": "…"}`, the last one.',
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def _data(stream: Stream, _: int, body: bytes) -> bytes:
    return b"data: %b\n\n" % named_item(stream, body)


def _error(document: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(document)


GENERATED = StreamForm("text/event-stream", item=_data, end=lambda _: b"", error=_error, alive=b": alive\n\n")
"""Its clients know neither ids nor kinds of events: an error is told by its member, the end by the connection's."""


def router(asking: Asking) -> APIRouter:
    routes = APIRouter(tags=["Open Inference Protocol V2"])

    async def asked(request: Request, name: str, version: str) -> Call:
        ref = ref_of(name, version)
        caller = asking.admit(request, ref)
        check_content_type(request.headers.get("content-type", ""))
        body = await asking.body(request)
        return Call(ref, body, caller, request_id=request_id_of(request), dialect=frames.DIALECT_GENERATE)

    @routes.post("/v2/models/{name}/generate", summary="Generate", openapi_extra=GENERATE_BODY)
    @routes.post(
        "/v2/models/{name}/versions/{version}/generate",
        summary="Generate by one version",
        openapi_extra=GENERATE_BODY,
    )
    async def generate(request: Request, name: str, version: str = "") -> Response:
        """Answers when all is made: an output of one value is that value, others are lists."""
        return await asking.ask(request, await asked(request, name, version))

    @routes.post(
        "/v2/models/{name}/generate_stream",
        summary="Generate as a stream",
        openapi_extra=GENERATE_BODY,
        response_class=Response,
        responses=STREAM_ANSWER,
    )
    @routes.post(
        "/v2/models/{name}/versions/{version}/generate_stream",
        summary="Generate as a stream by one version",
        openapi_extra=GENERATE_BODY,
        response_class=Response,
        responses=STREAM_ANSWER,
    )
    async def generate_stream(request: Request, name: str, version: str = "") -> Response:
        """Server-sent events, one an item as the model makes it."""
        return await asking.stream(request, await asked(request, name, version), GENERATED)

    return routes
