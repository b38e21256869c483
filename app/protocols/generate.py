"""Triton's generate extension: one JSON object of inputs by name; one answer, or one for each item as it is made.

    {"text_input": "…", "parameters": {…}}  →  {"model_name", "model_version", "text_output": "…"}

Members are matched with the model's inputs by name. A member that is no input is a parameter; only a model that takes
requests as they were sent sees it.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.dispatch.request import Call
from app.dispatch.stream import Stream
from app.dispatch.v2 import ref_of
from app.protocols.handler import JSON, InferenceHandler, request_body
from model_container.contract import frames
from model_container.contract.stream_forms import StreamForm, generated_form

_EXAMPLE = {"text_input": "a b", "parameters": {"temperature": 0}}
GENERATE_BODY = request_body({JSON: {"schema": {"type": "object", "additionalProperties": True}, "example": _EXAMPLE}})
STREAM_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One event for each item: `data:` and an object as in the answer of `/generate`. An error "
        'after the first item is the last event, `{"error": "…"}`.',
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def generated(stream: Stream) -> StreamForm:
    return generated_form(stream.lane.names[frames.FORM_GENERATE])


def router(asking: InferenceHandler) -> APIRouter:
    routes = APIRouter(tags=["Open Inference Protocol V2"])

    async def call_of(request: Request, name: str, version: str) -> Call:
        return await asking.call(request, ref_of(name, version), dialect=frames.DIALECT_GENERATE)

    @routes.post("/v2/models/{name}/generate", summary="Generate", openapi_extra=GENERATE_BODY)
    @routes.post(
        "/v2/models/{name}/versions/{version}/generate",
        summary="Generate with one version",
        openapi_extra=GENERATE_BODY,
    )
    async def generate(request: Request, name: str, version: str = "") -> Response:
        """Answers when the output is complete. An output of one value is that value; other outputs are lists."""
        return await asking.ask(request, await call_of(request, name, version))

    @routes.post(
        "/v2/models/{name}/generate_stream",
        summary="Generate as a stream",
        openapi_extra=GENERATE_BODY,
        response_class=Response,
        responses=STREAM_ANSWER,
    )
    @routes.post(
        "/v2/models/{name}/versions/{version}/generate_stream",
        summary="Generate as a stream with one version",
        openapi_extra=GENERATE_BODY,
        response_class=Response,
        responses=STREAM_ANSWER,
    )
    async def generate_stream(request: Request, name: str, version: str = "") -> Response:
        """Answers with server-sent events, one for each item as the model makes it."""
        return await asking.stream(request, await call_of(request, name, version), generated)

    return routes
