"""The plain routes by a model's name: list live models, predict at once, predict in a batch with others."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from app.dispatch.request import AwaitableRequest, Reply
from app.protocols.coalesce import Coalescer
from app.protocols.handler import JSON, Answer, InferenceHandler, request_body, whole
from model_container.contract import frames

FEATURES_BODY = request_body(
    {
        JSON: {
            "schema": {
                "type": "object",
                "properties": {"features": {"type": "array", "items": {"type": "array"}, "minItems": 1}},
            },
            "example": {"features": [[5.1, 3.5, 1.4, 0.2]]},
        }
    }
)


def router(asking: InferenceHandler, company: Coalescer) -> APIRouter:
    routes = APIRouter(tags=["predict"])

    @routes.get("/available_models", summary="List live models")
    async def available_models(request: Request) -> dict[str, list[str]]:
        asking.caller(request)
        return {"available_models": asking.live_names}

    @routes.post("/predict/{model_name}", summary="Predict by name", openapi_extra=FEATURES_BODY)
    async def predict(request: Request, model_name: str) -> Response:
        """Answers `{"model", "predictions"}`. Requests that arrive while the model is busy are batched all the same."""
        return await asking.ask(request, await asking.call(request, model_name), named)

    @routes.post("/predict/{model_name}/batch", summary="Predict many rows by name", openapi_extra=FEATURES_BODY)
    async def predict_batch(request: Request, model_name: str) -> Response:
        """Answers as `/predict/{model_name}`, one prediction for each row of the body."""
        return await asking.ask(request, await asking.call(request, model_name), named)

    @routes.post("/predict_batched/{model_name}", summary="Predict, batched with others", openapi_extra=FEATURES_BODY)
    async def predict_batched(request: Request, model_name: str) -> Response:
        """Works like `/predict/{model_name}`, but waits a moment for rows of other requests, to batch them together."""
        call = await asking.call(request, model_name)
        await company.gather(model_name)
        return await asking.ask(request, call, named)

    return routes


def named(request: AwaitableRequest, reply: Reply) -> Answer:
    """Return the runtime's answer, preceded by the model's name alone."""
    if reply.form != frames.FORM_NATIVE:
        return whole(request, reply)
    name = b'{"model":%b,' % msgspec.json.encode(request.lane.endpoint.name)
    return whole(request, msgspec.structs.replace(reply, names=name))
