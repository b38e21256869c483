"""HTTP responses of an image without a gateway, with problems in the form that the request's path requires."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Mapping, NamedTuple, Optional

import msgspec

from model_container.bodies.problems import Problem
from model_container.contract.frames import FORM_BESIDE_IGNORED, IGNORED_COLUMNS, Answer, without_ignored
from model_container.contract.mlflow_codes import error_code
from model_container.server.http_streams import Parts

JSON = "application/json"

_V2_OR_V1 = re.compile(r"/v[12](/.*)?", re.DOTALL)


class HttpResponse(NamedTuple):
    """HTTP response. parts: yields a body that is produced while it is sent; None if `body` is the whole body."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = {}
    parts: Optional[Parts] = None


def whole_answer(answer: Answer) -> HttpResponse:
    """Return a native answer; columns that were ignored are named in a header."""
    if answer.form != FORM_BESIDE_IGNORED:
        return HttpResponse(answer.body)
    body, _, ignored = without_ignored(answer.body)
    return HttpResponse(body, headers={IGNORED_COLUMNS: ignored})


def told_problem(path: str, problem: Problem) -> HttpResponse:
    """Render a problem as clients of that path expect it: the gateway's problem document, or a protocol's own error
    form.
    """
    document = json.loads(problem.answer().body)
    text = f"{problem.detail} {problem.hint}".strip()
    if _V2_OR_V1.fullmatch(path):
        return HttpResponse(to_json({"error": text}), problem.status)
    if path in ("/ping", "/version", "/invocations"):
        return HttpResponse(to_json({"error_code": error_code(problem.status), "message": text}), problem.status)
    title = HTTPStatus(problem.status).phrase
    whole = {"type": "about:blank", "title": title, "status": problem.status, **document}
    return HttpResponse(to_json(whole), problem.status, "application/problem+json")


def to_json(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)
