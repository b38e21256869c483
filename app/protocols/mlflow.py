"""The routes of MLflow's scoring server. Errors have its form, see ERRORS.

`/invocations` names no model, as MLflow's server has only one. Here it stands for the live model, as long as only one
is live. `/models/{ref}/invocations` names the model.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from app.dispatch.request import Call
from app.error_shapes import mlflow_error
from app.errors import BadInput, Unavailable, UnsupportedFormat
from app.http.problems import request_id_of
from app.protocols.handler import CSV, JSON, InferenceHandler, bare, identity_of, request_body
from app.protocols.streaming import ANSWERS
from app.version import VERSION
from model_container.contract import frames
from model_container.contract.stream_forms import form_asked_for

ERRORS = dict.fromkeys(("/invocations", "/models/*/invocations", "/ping", "/version"), mlflow_error)
"""The form of errors by path; see ErrorForms."""

_TABLE = {"type": "array", "items": {"type": "object"}}
_SPLIT = {
    "type": "object",
    "required": ["data"],
    "properties": {"columns": {"type": "array"}, "data": {"type": "array"}, "index": {"type": "array"}},
}
INVOCATION_BODY = request_body(
    {
        JSON: {
            "schema": {
                "type": "object",
                "properties": {
                    "dataframe_split": _SPLIT,
                    "dataframe_records": _TABLE,
                    "instances": {"type": "array"},
                    "inputs": {},
                    "params": {"type": "object"},
                },
            },
            "example": {"dataframe_split": {"columns": ["age", "city"], "data": [[41, "Oslo"]]}},
        },
        CSV: {"schema": {"type": "string"}, "example": "age,city\n41,Oslo\n"},
    }
)


def router(asking: InferenceHandler) -> APIRouter:
    routes = APIRouter(tags=["MLflow"])

    @routes.get("/ping", summary="Server readiness", response_class=PlainTextResponse)
    async def ping() -> str:
        """Answers 503 while no model is live."""
        if not asking.live_names:
            raise Unavailable("No model is live.")
        return "\n"

    @routes.get("/version", summary="Server version", response_class=PlainTextResponse)
    async def version() -> str:
        return VERSION

    @routes.post(
        "/invocations", summary="Predict with the only live model", responses=ANSWERS, openapi_extra=INVOCATION_BODY
    )
    async def invocations(request: Request) -> Response:
        asking.caller(request)
        return await invoked(request, only_one(asking.live_names))

    @routes.post(
        "/models/{ref}/invocations", summary="Predict, MLflow format", responses=ANSWERS, openapi_extra=INVOCATION_BODY
    )
    async def invocations_of_one(request: Request, ref: str) -> Response:
        """Takes exactly one of dataframe_split, dataframe_records, instances and inputs, or a table as text/csv."""
        return await invoked(request, ref)

    async def invoked(request: Request, ref: str) -> Response:
        caller = asking.admit(request, ref)
        dialect = dialect_of(request.headers.get("content-type", ""))
        body = await asking.body(request)
        call = Call(
            ref, body, caller, request_id=request_id_of(request), dialect=dialect, identity=identity_of(request)
        )
        form = form_asked_for(request.headers.get("accept", ""))
        return await (asking.ask(request, call, bare) if form is None else asking.stream(request, call, lambda _: form))

    return routes


def only_one(names: list[str]) -> str:
    """Return the only name. Raises BadInput if there are several, Unavailable if there is none."""
    if not names:
        raise Unavailable("No model is live.", hint="Deploy one: prism push model.joblib")
    if len(names) > 1:
        listed = ", ".join(f"`{name}`" for name in names[:8]) + (" and others" if len(names) > 8 else "")
        raise BadInput(
            f"/invocations does not name a model, but {listed} are live.",
            hint=f"Send it to /models/{names[0]}/invocations.",
        )
    return names[0]


def dialect_of(content_type: str) -> int:
    """Return the dialect of a content type.

    Raises UnsupportedFormat for other types, charsets and parameters, as MLflow does.
    """
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    charset = [part.partition("=")[2].strip('" ').lower() for part in parameters if part]
    unknown = [part for part in parameters if part and not part.lower().startswith("charset")]
    if unknown or charset not in ([], ["utf-8"]):
        raise UnsupportedFormat(
            f"Only UTF-8 is supported, not `{content_type[:100]}`.", hint=f"Send `{kind[:60]}` alone."
        )
    if kind.lower() in ("", JSON):
        return frames.DIALECT_MLFLOW
    if kind.lower() == CSV:
        return frames.DIALECT_CSV
    raise UnsupportedFormat(f"An invocation takes {JSON} or {CSV}, not `{kind[:100]}`.", hint="Send one of them.")
