"""POST /models/{ref}/predict through FastAPI: decode, call the road, encode."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.guard import api_key, caller_address
from app.api.problems import request_id_of
from app.dispatch.door import CONTENT_LENGTH_DIGITS
from app.dispatch.pipeline import Call, Dispatcher
from app.errors import TooLarge, UnsupportedFormat

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


def router(dispatcher: Dispatcher, max_body_bytes: int) -> APIRouter:
    routes = APIRouter(tags=["predict"])

    @routes.post(
        "/models/{ref}/predict",
        summary="Predict",
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": BODY_EXAMPLES}}, "required": True}},
    )
    async def predict(
        ref: str,
        request: Request,
        probabilities: Annotated[bool, Query(description="Also answer class probabilities.")] = False,
    ) -> Response:
        """Answers `{"model", "version", "model_id", "predictions": […]}`.

        `ref` is a model's name (follows its newest live version), `name@version`, or a model_id.
        """
        check_content_type(request.headers.get("content-type", ""))
        body = await limited_body(request, max_body_bytes)
        call = Call(ref, body, api_key(request.headers), caller_address(request), probabilities, request_id_of(request))
        prediction = await dispatcher.predict(call)
        return Response(prediction.body, prediction.status, prediction.headers, media_type=prediction.content_type)

    return routes


def check_content_type(content_type: str) -> None:
    """JSON, or nothing said. Raises UnsupportedFormat for what says to be something else."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json")):
        return
    raise UnsupportedFormat(
        f"A prediction takes application/json, not `{kind[:100]}`.",
        hint="Send the header `Content-Type: application/json`; with curl: -H 'Content-Type: application/json'.",
    )


async def limited_body(request: Request, max_bytes: int) -> bytes:
    """The body, refused before it is read where its length says so, else as soon as it is over the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > CONTENT_LENGTH_DIGITS or int(declared) > max_bytes):
        raise body_too_large(max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise body_too_large(max_bytes)
    return bytes(body)


def body_too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {max_bytes // (1 << 20)} MiB.",
        hint="Send fewer rows at a time, or raise PRISM_MAX_BODY_MB.",
        limit_bytes=max_bytes,
    )
