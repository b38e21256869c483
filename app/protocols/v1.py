"""KServe's V1 protocol. Errors are `{"error": "…"}` on every path below /v1 that no other protocol claims."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.error_shapes import ErrorForm, inference_error
from app.lifecycle.state import DeploymentState
from app.protocols.handler import JSON, InferenceHandler, bare, request_body
from model_container.contract import frames

ERRORS: dict[str, ErrorForm] = {"/v1/**": inference_error}
"""The form of errors by path; see ErrorForms."""

_ROWS = {"type": "array", "minItems": 1}
PREDICT_BODY = request_body(
    {
        JSON: {
            "schema": {
                "type": "object",
                "properties": {"instances": _ROWS, "inputs": {}, "parameters": {"type": "object"}},
            },
            "example": {"instances": [[5.1, 3.5, 1.4, 0.2]]},
        }
    }
)


def router(asking: InferenceHandler, state: DeploymentState) -> APIRouter:
    routes = APIRouter(tags=["KServe V1"])

    @routes.get("/v1/models/{name}", summary="Model readiness")
    async def model(request: Request, name: str) -> dict[str, Any]:
        asking.admit(request, name)
        return {"name": state.find(name).name, "ready": state.live_endpoint(name) is not None}

    @routes.post("/v1/models/{name}:predict", summary="Predict", openapi_extra=PREDICT_BODY)
    async def predict(request: Request, name: str) -> Response:
        """Takes `{"instances": […]}` or `{"inputs": …}`; answers `{"predictions": […]}`."""
        return await asking.ask(request, await asking.call(request, name, dialect=frames.DIALECT_V1), bare)

    return routes


def listed_models(asking: InferenceHandler) -> dict[str, Any]:
    """Return KServe's members of the answer to GET /v1/models."""
    return {"models": asking.live_names}
