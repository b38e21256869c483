"""Every error leaves as an RFC 9457 problem document, whoever raised it."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.errors import PROBLEM_JSON, BadInput, NotFound, PrismError

log = structlog.get_logger(__name__)


class MethodNotAllowed(PrismError):
    code = "method_not_allowed"
    status = 405
    title = "This path does not take that method"


def problem_response(document: dict[str, Any], request_id: str, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode({**document, "request_id": request_id})
    return Response(body, document["status"], headers, media_type=PROBLEM_JSON)


def request_id_of(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def install(app: FastAPI) -> None:
    """Route each kind of exception that can reach FastAPI to its problem document."""

    @app.exception_handler(PrismError)
    async def of_ours(request: Request, error: PrismError) -> Response:
        return problem_response(error.problem(), request_id_of(request), error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = BadInput(f"{where}: {first['msg']} (got {str(first.get('input'))[:100]!r}).", hint="See /docs.")
        return problem_response(problem.problem(), request_id_of(request))

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Request, error: HTTPException) -> Response:
        problem: PrismError
        if error.status_code == 404:
            problem = NotFound(f"There is nothing at {request.url.path[:200]}.", hint="/docs lists every route.")
        elif error.status_code == 405:
            problem = MethodNotAllowed(
                f"{request.url.path[:200]} does not take {request.method}.", hint="/docs lists every route."
            )
        else:
            problem = BadInput(str(error.detail))
        document = {**problem.problem(), "status": error.status_code}
        return problem_response(document, request_id_of(request), dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def of_leaving(request: Request, error: ClientDisconnect) -> Response:
        """Nobody reads this; the client left before its body was whole."""
        return problem_response(BadInput("The request was cut off by its sender.").problem(), request_id_of(request))

    @app.exception_handler(Exception)
    async def of_anything_else(request: Request, error: Exception) -> Response:
        log.exception("a request failed unexpectedly", path=request.url.path, request_id=request_id_of(request))
        problem = PrismError("PRISM met an error of its own.", hint="The server's log has the details.")
        return problem_response(problem.problem(), request_id_of(request))
