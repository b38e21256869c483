"""How an error is told to clients of other protocols: by the path that was asked, whoever found the error.

/v2…, /v1…                                       {"error": "what happened and what to do"}
/invocations, /models/{ref}/invocations, /ping   {"error_code": "BAD_REQUEST", "message": "…"}, as MLflow does
every other path                                 the RFC 9457 problem document
"""

from __future__ import annotations

import re
from typing import Any

from app.errors import PROBLEM_JSON

JSON = "application/json"

_INFERENCE = re.compile(r"/v[12](/.*)?", re.DOTALL)
_MLFLOW = re.compile(r"/(invocations|ping|version|models/[^/]+/invocations)")
_MLFLOW_CODES = {
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


def is_ours(path: str) -> bool:
    """Whether errors on it are told in the form of PRISM's own API."""
    return _INFERENCE.fullmatch(path) is None and _MLFLOW.fullmatch(path) is None


def shaped(path: str, problem: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The document for that path, and its content type. problem: the problem document, complete."""
    text = f"{problem['detail']} {problem.get('hint', '')}".strip()
    if _INFERENCE.fullmatch(path):
        return {"error": text}, JSON
    if _MLFLOW.fullmatch(path):
        status = problem["status"]
        code = _MLFLOW_CODES.get(status) or ("BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        return {"error_code": code, "message": text}, JSON
    return problem, PROBLEM_JSON
