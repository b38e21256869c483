"""POST /models/{ref}/predict through FastAPI."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.dispatch.request import AwaitableRequest, Reply
from app.protocols.handler import CSV, JSON, Answer, InferenceHandler, request_body, whole
from app.protocols.streaming import ANSWERS
from model_container.contract import frames
from model_container.contract.content_types import DIALECTS, dialect_of
from model_container.contract.file_types import AUDIO, IMAGE, PARQUET_TYPE, content_types
from model_container.contract.stream_forms import form_asked_for, weights_of

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
CSV_EXAMPLE = "age,city\n41,Oslo\n27,Rome\n"


FORM_OF_FILES: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    },
}
FILE_BODIES: dict[str, dict[str, Any]] = {
    kind: {name: {"schema": {"type": "string", "format": "binary"}} for name in content_types(kind)}
    for kind in (IMAGE, AUDIO)
}
"""The further bodies that a model takes whose input has the shape of an image, or is sound."""

BODIES: dict[str, Any] = {
    JSON: {"examples": BODY_EXAMPLES},
    CSV: {"schema": {"type": "string"}, "example": CSV_EXAMPLE},
    PARQUET_TYPE: {"schema": {"type": "string", "format": "binary"}},
    **FILE_BODIES[IMAGE],
    **FILE_BODIES[AUDIO],
    **FORM_OF_FILES,
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
        strict: Annotated[bool, Query(description="Refuse columns that the model does not have.")] = False,
        errors: Annotated[
            bool, Query(description="Of a table: have the column `error` even if no row has an error.")
        ] = False,
    ) -> Response:
        """Answers `{"model", "version", "model_id", "predictions": […]}`.

        `ref` is a model's name (follows its newest live version), `name@version`, or a model_id. A model that takes
        images or sounds also takes them as they are, or several in a form; see docs/image-inputs.md and
        docs/audio-inputs.md. With `Accept:
        text/event-stream` or `application/x-ndjson` the predictions come one by one; see docs/streaming.md. A table of
        `text/csv`, or of Parquet where the model's environment has pyarrow, is answered with `Accept: text/csv` by its own rows with the results beside them; a row that cannot be predicted
        has its reason in a column `error`. Columns that the
        model does not have are ignored, and named in the header `X-Ignored-Columns`.
        """
        accept = request.headers.get("accept", "")
        dialect = dialect_of(request.headers.get("content-type", ""))
        form = form_asked_for(accept)
        as_csv = form is None and dialect in frames.TABLES and weights_of(accept).get(CSV, 0.0) > 0
        call = await asking.call(
            request,
            ref,
            *DIALECTS,
            dialect=dialect,
            probabilities=probabilities,
            strict=strict,
            as_csv=as_csv,
            errors=errors,
        )
        if form is not None:
            return await asking.stream(request, call, lambda _: form)
        return await asking.ask(request, call, table_or_whole, packs=False)  # the fast path does not compress either

    return routes


def table_or_whole(request: AwaitableRequest, reply: Reply) -> Answer:
    """Return the runtime's table as it wrote it, any other answer preceded by the names of the model and its version."""
    is_table = reply.form == frames.FORM_CSV
    return Answer(reply.body, f"{CSV}; charset=utf-8") if is_table else whole(request, reply)
