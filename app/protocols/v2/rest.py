"""The Open Inference Protocol V2 over REST: health, metadata and inference, with the binary tensor data extension.

The repository, statistics and configuration extensions are in repository.py. Errors are `{"error": "…"}` on every path
below /v2.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import APIRouter, Request, Response
from msgspec import structs

from app.dispatch.request import AwaitableRequest, Reply
from app.dispatch.v2 import BINARY, JSON, JSON_LENGTH_HEADER, inference_answer, json_length_of
from app.error_shapes import ErrorForm, inference_error
from app.errors import BadInput, Unavailable
from app.http.bodies import check_content_type
from app.protocols.handler import Answer, InferenceHandler, caller_of, request_body
from app.protocols.v2.documents import server_document
from app.protocols.v2.service import V2Service
from model_container.contract import frames

ERRORS: dict[str, ErrorForm] = {"/v2/**": inference_error}
"""The form of errors by path; see ErrorForms."""

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": ["BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"]},
        "parameters": {"type": "object"},
        "data": {"type": "array", "description": "Flat or nested, row-major; omitted if the values follow in binary."},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}
_EXAMPLE = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
INFER_BODY = request_body(
    {
        JSON: {"schema": _REQUEST, "example": _EXAMPLE},
        BINARY: {
            "schema": {"type": "string", "format": "binary"},
            "description": f"The JSON, whose length {JSON_LENGTH_HEADER} gives, then the tensors in the order of the JSON.",
        },
    }
)


def router(asking: InferenceHandler, service: V2Service, extensions: Collection[str]) -> APIRouter:
    """Return the routes. extensions: those of the protocol that the surface offers."""
    routes = APIRouter(tags=["Open Inference Protocol V2"])

    @routes.get("/v2", summary="Server metadata")
    async def server() -> dict[str, Any]:
        return server_document(extensions)

    @routes.get("/v2/health/live", summary="Server liveness")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/v2/health/ready", summary="Server readiness")
    async def ready() -> dict[str, bool]:
        """Answers 503 while a model that was live, and should be, takes no traffic.

        A model that never was live does not count.
        """
        if not service.is_ready():
            raise Unavailable("A model that should be live takes no traffic right now.")
        return {"live": True, "ready": True}

    @routes.get("/v2/models/{name}", summary="Model metadata")
    @routes.get("/v2/models/{name}/versions/{version}", summary="Version metadata")
    async def metadata(request: Request, name: str, version: str = "") -> dict[str, Any]:
        return service.metadata(caller_of(request), name, version)

    @routes.get("/v2/models/{name}/ready", summary="Model readiness")
    @routes.get("/v2/models/{name}/versions/{version}/ready", summary="Version readiness")
    async def model_ready(request: Request, name: str, version: str = "") -> dict[str, Any]:
        model, is_ready = service.readiness(caller_of(request), name, version)
        if not is_ready:
            raise Unavailable(f"`{model.ref}` is {service.status(model)} and takes no traffic.")
        return {"name": model.name, "ready": True}

    @routes.post("/v2/models/{name}/infer", summary="Predict", openapi_extra=INFER_BODY)
    @routes.post(
        "/v2/models/{name}/versions/{version}/infer", summary="Predict with one version", openapi_extra=INFER_BODY
    )
    async def infer(request: Request, name: str, version: str = "") -> Response:
        """Takes tensors as JSON numbers or as bytes after the JSON; outputs have the form that the request asks for."""
        call = service.call(caller_of(request), name, version)
        check_content_type(request.headers.get("content-type", ""), BINARY)
        body = await asking.body(request)
        mark = frames.JSON_LENGTH.pack(json_length(request, len(body)))
        return await asking.ask(request, structs.replace(call, body=mark + body), answer)

    return routes


def json_length(request: Request, body_bytes: int) -> int:
    """Return the length of the JSON in the decompressed body. Raises BadInput."""
    value = request.headers.get(JSON_LENGTH_HEADER)
    length = body_bytes if value is None else json_length_of(value, body_bytes)
    if length is None:
        raise BadInput(
            f"{JSON_LENGTH_HEADER} is `{str(value)[:40]}`, the body has {body_bytes} bytes.",
            hint="It counts the bytes of the JSON in front of the tensors, before any compression.",
        )
    return length


def answer(request: AwaitableRequest, reply: Reply) -> Answer:
    return Answer(*inference_answer(request, reply))
