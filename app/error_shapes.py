"""Puts an error into the form of other protocols, by the path of the request, wherever the error was raised.

/v2…, /v1…                                       {"error": "what happened and what to do"}
/invocations, /models/{ref}/invocations, /ping   {"error_code": "BAD_REQUEST", "message": "…"}, as MLflow does
every other path                                 the RFC 9457 problem document
"""

from __future__ import annotations

import re
from typing import Any

from app.errors import PROBLEM_JSON
from model_container.contract.mlflow_codes import error_code

JSON = "application/json"

_INFERENCE = re.compile(r"/v[12](/.*)?", re.DOTALL)
_MLFLOW = re.compile(r"/(invocations|ping|version|models/[^/]+/invocations)")


def is_native_path(path: str) -> bool:
    """Return whether errors on this path have the form of PRISM's own API."""
    return _INFERENCE.fullmatch(path) is None and _MLFLOW.fullmatch(path) is None


def error_for_path(path: str, problem: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the document for that path, and its content type. problem: the whole problem document."""
    text = f"{problem['detail']} {problem.get('hint', '')}".strip()
    if _INFERENCE.fullmatch(path):
        return {"error": text}, JSON
    if _MLFLOW.fullmatch(path):
        return {"error_code": error_code(problem["status"]), "message": text}, JSON
    return problem, PROBLEM_JSON
