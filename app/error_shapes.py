"""The forms of errors: each protocol's clients read their own, wherever on a path the error was raised.

The forms that PRISM's protocols declare for their paths are in app/protocols/error_forms.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from app.errors import PROBLEM_JSON
from model_container.contract.mlflow_codes import error_code

JSON = "application/json"

ErrorForm = Callable[[dict[str, Any]], tuple[dict[str, Any], str]]
"""Turns a whole problem document into the document that clients read, and its content type."""


def native_error(problem: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the RFC 9457 problem document, as PRISM's own API does."""
    return problem, PROBLEM_JSON


def inference_error(problem: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return `{"error": "what happened and what to do"}`, as the Open Inference Protocol V2 and KServe V1 do."""
    return {"error": error_text(problem)}, JSON


def mlflow_error(problem: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return `{"error_code": "BAD_REQUEST", "message": "…"}`, as MLflow does."""
    return {"error_code": error_code(problem["status"]), "message": error_text(problem)}, JSON


def error_text(problem: Mapping[str, Any]) -> str:
    """Return what happened and what to do, in one line."""
    return f"{problem['detail']} {problem.get('hint', '')}".strip()


class ErrorForms:
    """The forms of errors on the paths of one surface; a path that is not declared has the native form.

    declared: the form by path, where `*` stands for one segment, and `/**` at the end for all paths below. The longest
    declared path decides, so `/v1/chat/completions` may have another form than `/v1/**`.
    """

    def __init__(self, declared: Mapping[str, ErrorForm]) -> None:
        longest_first = sorted(declared, key=len, reverse=True)
        self._forms = [(_pattern(path), declared[path]) for path in longest_first]

    def form(self, path: str) -> ErrorForm:
        """Return the form of errors on this path."""
        for pattern, form in self._forms:
            if pattern.fullmatch(path):
                return form
        return native_error


def _pattern(path: str) -> re.Pattern[str]:
    top = re.escape(path.removesuffix("/**")).replace(r"\*", "[^/]+")
    return re.compile(f"{top}(/.*)?" if path.endswith("/**") else top, re.DOTALL)
