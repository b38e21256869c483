"""Errors over gRPC: a status code, and the text that REST gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grpc import StatusCode

from app.error_shapes import error_text
from app.errors import PrismError

_CODES = {
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
    507: StatusCode.RESOURCE_EXHAUSTED,
}


class Refusal(Exception):
    """An error that ends a request with a status. headers: sent as trailing metadata."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(text)
        self.text = text
        self.code = code_of(status)
        self.trailing = tuple((name.lower(), value) for name, value in headers.items())


def code_of(status: int) -> StatusCode:
    """Return the gRPC status code for an error's HTTP status."""
    return _CODES.get(status) or (StatusCode.INVALID_ARGUMENT if status < 500 else StatusCode.INTERNAL)


def of_problem(problem: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal:
    return Refusal(problem["status"], error_text(problem), headers)


def of_error(error: PrismError) -> Refusal:
    return Refusal(error.status, str(error), error.headers)
