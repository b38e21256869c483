"""POST /models/{ref}/predict through FastAPI."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.protocols.handler import InferenceHandler, request_body
from app.protocols.streaming import ANSWERS
from model_container.contract.content_types import DIALECTS, dialect_of
from model_container.contract.stream_forms import form_asked_for

BODY_EXAMPLES = {
    "one row, by name": {"value": {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5}},
    "several rows": {"value": {"features": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}},
    "columns or tensors by name": {"value": {"inputs": {"age": [41, 27], "city": ["Oslo", "Rome"]}}},
    "KServe V1": {"value": {"instances": [[5.1, 3.5, 1.4, 0.2]]}},
    "Open Inference Protocol V2": {
        "value": {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
    },
    "MLflow": {"value": {"dataframe_split": {"columns": ["age", "city"], "data": [[41, "Oslo"]]}}},
}


BODIES: dict[str, Any] = {
    "application/json": {"examples": BODY_EXAMPLES},
    **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in DIALECTS if kind.startswith("image/")},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    },
}
"""The bodies that a prediction takes, by content type; see model_container/contract/content_types.py."""


def router(asking: InferenceHandler) -> APIRouter:
    routes = APIRouter(tags=["predict"])

    @routes.post(
        "/models/{ref}/predict",
        summary="Predict",
        responses=ANSWERS,
        openapi_extra=request_body(BODIES),
    )
    async def predict(
        ref: str,
        request: Request,
        probabilities: Annotated[bool, Query(description="Also return class probabilities.")] = False,
    ) -> Response:
        """Answers `{"model", "version", "model_id", "predictions": […]}`.

        `ref` is a model's name (follows its newest live version), `name@version`, or a model_id. A model that takes
        images also takes them as they are, or several in a form; see docs/image-inputs.md. With `Accept:
        text/event-stream` or `application/x-ndjson` the predictions come one by one; see docs/streaming.md.
        """
        dialect = dialect_of(request.headers.get("content-type", ""))
        call = await asking.call(request, ref, *DIALECTS, dialect=dialect, probabilities=probabilities)
        form = form_asked_for(request.headers.get("accept", ""))
        if form is not None:
            return await asking.stream(request, call, lambda _: form)
        return await asking.ask(request, call, packs=False)  # as on the fast path, which does not compress

    return routes
