"""The public surface: what anyone with the link to a shared model may call.

A separate application without other routes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from app.access.admission import Admission
from app.core.model import ModelVersion
from app.dispatch.pipeline import Dispatcher
from app.errors import BadInput, Conflict, NotFound, PrismError
from app.http.guard import RequestIdMiddleware, api_key, caller_address
from app.http.problems import MethodNotAllowed, error_form, problem_response, request_id_of
from app.lifecycle.state import DeploymentState
from app.protocols import generate, native, v1
from app.protocols.error_forms import ERROR_FORMS
from app.protocols.handler import InferenceHandler
from app.protocols.v2 import rest as v2_rest
from app.protocols.v2.documents import PUBLIC_EXTENSIONS
from app.protocols.v2.service import V2Service

log = structlog.get_logger(__name__)

_NAME = rb"(?:[\w.~!$&'()*+,=:@-]|%(?!2[Ff]|5[Cc]|[01]|7[Ff])[0-9A-Fa-f]{2})+"
PATH = re.compile(
    rb"/health|/models/" + _NAME + rb"(?:/predict)?|/v1/models/" + _NAME + rb"|/v2(?:/health/(?:live|ready))?"
    rb"|/v2/models/" + _NAME + rb"(?:/versions/" + _NAME + rb")?(?:/ready|/infer|/generate(?:_stream)?)?"
)
"""The permitted raw paths, before anything is decoded: an escaped slash would turn one path into another."""

ASK = "Ask whoever sent you the link what is shared."
ROUTES = (
    "POST /models/{name}/predict, GET /models/{name} and GET /health are available, as well as "
    "/v2/models/{name} with /ready, /infer, /generate and /generate_stream, and /v1/models/{name} with :predict; nothing else."
)


def create_public_app(
    dispatcher: Dispatcher,
    admission: Admission,
    state: DeploymentState,
    is_well: Callable[[], bool],
    max_body_bytes: int,
) -> FastAPI:
    """Create the application. is_well: whether each shared model takes traffic."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.error_forms = ERROR_FORMS
    asking = InferenceHandler(dispatcher, admission, max_body_bytes)
    app.include_router(native.router(asking))
    service = V2Service(dispatcher, admission, state, is_well)
    app.include_router(v2_rest.router(asking, service, PUBLIC_EXTENSIONS))
    app.include_router(generate.router(asking))
    app.include_router(v1.router(asking, state))

    @app.get("/models/{ref}")
    async def one_model(ref: str, request: Request) -> Response:
        admission.admit(api_key(request.headers), caller_address(request), ref)
        return Response(msgspec.json.encode(public_document(state.find(ref))), media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok" if is_well() else "degraded"}

    async def refuse(request: Request, error: Exception) -> Response:
        refusal = admission.tell(as_ours(request, error))
        form = error_form(request.scope, request.url.path)
        return problem_response(refusal.problem(), request_id_of(request), refusal.headers, form)

    for kind in (PrismError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, refuse)
    app.add_middleware(PublicGate)
    return app


class PublicGate(RequestIdMiddleware):
    """A middleware that passes only the paths of this surface, in their plain form."""

    def refusal(self, scope: Scope) -> PrismError | None:
        return None if PATH.fullmatch(scope["raw_path"]) else nothing_here(scope["path"])


def public_document(model: ModelVersion) -> dict[str, Any]:
    """Return what a caller needs to use the model, and nothing about how it is made or where it runs.

    endpoint: relative to this server's root.
    """
    return {
        "name": model.name,
        "version": model.version,
        "description": model.spec.description,
        "endpoint": f"/models/{quote(model.name)}/predict",
        "signature": model.findings.signature,
        "sample": model.findings.sample,
    }


def in_public(error: PrismError) -> PrismError:
    """Return the error without hints for the owner, and without names of models that are not shared."""
    if isinstance(error, NotFound) and "ref" in error.values:
        return NotFound(f"There is no model `{error.values['ref']}`.", hint=ASK)
    if isinstance(error, Conflict):
        return Conflict(error.detail, hint="Ask whoever sent you the link to start it.")
    return error


def as_ours(request: Request, error: Exception) -> PrismError:
    """Return the PrismError that stands for what ended a request."""
    path = request.url.path
    match error:
        case PrismError():
            return error
        case HTTPException(status_code=404):
            return nothing_here(path)
        case HTTPException(status_code=405):
            return MethodNotAllowed(f"{path[:200]} does not support {request.method}.", hint=ROUTES)
        case RequestValidationError():
            return BadInput("; ".join(f"{mistake['loc'][-1]}: {mistake['msg']}" for mistake in error.errors())[:500])
        case HTTPException() | ClientDisconnect():
            return BadInput("The request is incomplete or cannot be read.")
        case _:
            log.exception("a public request failed unexpectedly", path=path, request_id=request_id_of(request))
            return PrismError("PRISM has an internal error.", hint="Tell whoever sent you the link.")


def nothing_here(path: str) -> NotFound:
    return NotFound(f"There is nothing at {path[:200]}.", hint=ROUTES)
