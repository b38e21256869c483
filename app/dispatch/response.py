"""The answer to a request as every protocol writes it: headers, and a body or the problem that a runtime reported."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from app.dispatch.request import PendingRequest, Reply
from app.errors import PROBLEM_JSON, ReplicaProtocolError
from model_container.contract import frames
from model_container.contract.frames import IGNORED_COLUMNS

CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""The form of a problem's code."""

RESCUED = "x-prism-rescued"
"""The header that names the version in whose place another one answered."""


def answer_headers(request: PendingRequest, reply: Reply) -> dict[str, str]:
    """Return the header fields of an answer: its version, its timing, and what is left of the caller's allowance."""
    allowance = request.allowance
    headers = {**request.lane.version_headers, "server-timing": reply.timing}
    if reply.ignored:
        headers[IGNORED_COLUMNS] = reply.ignored
    if reply.rescued:
        headers[RESCUED] = reply.rescued
    return headers if allowance is None else {**headers, **allowance.headers}


def answer_header_lines(request: PendingRequest, reply: Reply) -> str:
    """Return the fields of `answer_headers` as lines, each with its line end, as the fast path sends them."""
    allowance = request.allowance
    lines = f"{request.lane.version_header_lines}server-timing: {reply.timing}\r\n"
    if reply.ignored:
        lines = f"{lines}{IGNORED_COLUMNS}: {reply.ignored}\r\n"
    if reply.rescued:
        lines = f"{lines}{RESCUED}: {reply.rescued}\r\n"
    return lines if allowance is None else f"{lines}{allowance.header_lines}"


def answer_body(request: PendingRequest, reply: Reply, request_id: str) -> bytes:
    """Return the runtime's answer, completed without parsing it: after the version's names, or as a problem document.

    Raises ReplicaProtocolError if it is no valid answer. The connection lets through only statuses that go with the
    form.
    """
    if reply.form == frames.FORM_PROBLEM:
        return msgspec.json.encode(problem_document(reply.body, reply.status, request_id))
    if not reply.body.startswith(b"{"):
        raise ReplicaProtocolError(f"The replica of `{request.lane.endpoint.name}` sent an invalid answer.")
    return reply.names + reply.body[1:] if reply.names else reply.body


def content_type(reply: Reply) -> str:
    return PROBLEM_JSON if reply.form == frames.FORM_PROBLEM else "application/json"


ACRONYMS = {name.lower(): name for name in ("CSV", "JSON")}
"""Words of the runtime's codes that a title writes in capitals."""


class _Problem(Struct):
    """The members of a runtime's problem that are read."""

    code: str = "prediction_failed"
    detail: str = "The model gave no reason."
    hint: str = ""


def problem_document(body: bytes, status: int, request_id: str) -> dict[str, Any]:
    """Turn the problem that a runtime wrote (`code`, `detail`, …) into an RFC 9457 document.

    Its further members are passed on as they were written, unread. Raises ReplicaProtocolError if it is no valid
    problem.
    """
    try:
        if not body:
            raise ValueError("it is empty")
        if len(body) > frames.PROBLEM_BYTES_MAX:
            raise ValueError(f"it has {len(body)} bytes")
        body.decode()  # msgspec does not check the members that are left unread
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReplicaProtocolError(f"The replica sent an invalid problem document: {error}.") from None
    if CODE.fullmatch(problem.code) is None:
        raise ReplicaProtocolError("The replica sent a problem document with an invalid code.")
    words = " ".join(ACRONYMS.get(word, word) for word in problem.code.split("_"))
    title = words[:1].upper() + words[1:]
    own = {"type": f"/docs/errors#{problem.code}", "title": title, "status": status}
    known = {
        **members,
        "code": problem.code,
        "detail": problem.detail,
        **({"hint": problem.hint} if problem.hint else {}),
    }
    return {**own, **known, **own, "request_id": request_id}
