"""Answers every error, whoever raised it, with an RFC 9457 problem document.

A browser that wants a page gets a page; the routes of other protocols answer as their clients read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from app.core.os_errors import log_fields, problem_of
from app.core.plain import plain
from app.error_shapes import ErrorForm, ErrorForms, native_error
from app.errors import BadInput, NotFound, PrismError, Unavailable

log = structlog.get_logger(__name__)

Page = Callable[[Request, dict[str, Any], dict[str, str]], Response | None]
"""A problem, with its headers, as a page; None for a request that wants no page."""


class MethodNotAllowed(PrismError):
    code = "method_not_allowed"
    status = 405
    title = "This path does not support that method"


def problem_response(
    document: dict[str, Any],
    request_id: str,
    headers: dict[str, str] | None = None,
    form: ErrorForm = native_error,
) -> Response:
    """Make the response that tells a problem, in the form that its clients read.

    document: may hold any values; this never fails. A 503 says after how many seconds to come back.
    """
    if document["status"] == Unavailable.status:
        headers = {"Retry-After": "1", **(headers or {})}
    body, media_type = form(plain({**document, "request_id": request_id}))
    return Response(msgspec.json.encode(body), document["status"], headers, media_type=media_type)


def request_id_of(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def error_form(scope: Scope, path: str) -> ErrorForm:
    """Return the form of errors on this path of the application that got the request."""
    forms: ErrorForms = scope["app"].state.error_forms
    return forms.form(path)


def install(app: FastAPI, forms: ErrorForms, page: Page = lambda *_: None) -> None:
    """Route each kind of exception that can reach FastAPI to its problem document, or its page.

    forms: of errors on the application's paths, wherever in it they are raised.
    """
    app.state.error_forms = forms

    def answer(request: Request, document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
        request_id = request_id_of(request)
        form, document = forms.form(request.url.path), plain(document)
        shown = page(request, {**document, "request_id": request_id}, headers or {}) if form is native_error else None
        return shown or problem_response(document, request_id, headers, form)

    @app.exception_handler(PrismError)
    async def of_ours(request: Request, error: PrismError) -> Response:
        return answer(request, error.problem(), error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = BadInput(f"{where}: {first['msg']} (got {str(first.get('input'))[:100]!r}).", hint="See /docs.")
        return answer(request, problem.problem())

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Request, error: HTTPException) -> Response:
        problem: PrismError
        if error.status_code == 404:
            problem = NotFound(f"There is nothing at {request.url.path[:200]}.", hint="/docs lists every route.")
        elif error.status_code == 405:
            problem = MethodNotAllowed(
                f"{request.url.path[:200]} does not support {request.method}.", hint="/docs lists every route."
            )
        else:
            problem = BadInput(str(error.detail))
        return answer(request, {**problem.problem(), "status": error.status_code}, dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def of_leaving(request: Request, error: ClientDisconnect) -> Response:
        """Answer a client that left before its body was whole. Nobody reads it."""
        return answer(request, BadInput("The client closed the connection during the request.").problem())

    @app.exception_handler(OSError)
    async def of_the_system(request: Request, error: OSError) -> Response:
        problem = problem_of(error)
        if problem is None:
            return await of_anything_else(request, error)
        log.warning("a request met a fault of the storage", request_path=request.url.path, **log_fields(error))
        return answer(request, problem.problem(), problem.headers)

    @app.exception_handler(Exception)
    async def of_anything_else(request: Request, error: Exception) -> Response:
        log.exception("a request failed unexpectedly", path=request.url.path, request_id=request_id_of(request))
        return answer(
            request, PrismError("PRISM has an internal error.", hint="The server's log has the details.").problem()
        )
