"""Error codes of MLflow's scoring server, by HTTP status.

This file imports only the standard library, because the gateway and every model's environment share it.
"""

from __future__ import annotations

_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_code(status: int) -> str:
    """Return the code for a status. Statuses without a code in MLflow are a bad request or an internal error."""
    return _CODES.get(status) or ("BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
