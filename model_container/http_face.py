"""Plain HTTP of a runtime that runs by itself, as in `docker run -p 8080:8080 image`.

GET  /health    200 if a prediction works
GET  /          what this is: libraries, signature, samples
POST /predict   a body in a native dialect; ?probabilities=true adds them
"""

from __future__ import annotations

import io
import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Dict, Optional, Protocol, Sequence, Tuple
from urllib.parse import parse_qs

import msgspec

from model_container.frames import FORM_PROBLEM, OPTION_PROBABILITIES, Answer, Request
from model_container.problems import Problem

MAX_BODY_BYTES = 64 << 20
IDLE_SECONDS = 30.0

_ROUTES = {"/": ("GET", "HEAD"), "/health": ("GET", "HEAD"), "/predict": ("POST",)}


class Runtime(Protocol):
    """What of the server the HTTP face uses."""

    welcome: Dict[str, Any]

    def predict(self, requests: Sequence[Request]) -> Tuple[Sequence[Answer], int, int]: ...

    def admits(self, token: object) -> bool: ...


def answer_http(runtime: Runtime, connection: socket.socket, first: bytes) -> None:
    """Answer requests until the client closes. first: bytes already read from the connection."""
    connection.settimeout(IDLE_SECONDS)
    _Handler(runtime, connection, first)


class _Replayed(io.RawIOBase):
    """The connection's bytes from their beginning, those already read included."""

    def __init__(self, first: bytes, connection: socket.socket) -> None:
        self._first = first
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._first:
            return self._connection.recv_into(buffer)
        count = min(len(buffer), len(self._first))
        buffer[:count] = self._first[:count]
        self._first = self._first[count:]
        return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "PRISM"
    sys_version = ""

    def __init__(self, runtime: Runtime, connection: socket.socket, first: bytes) -> None:
        self._runtime = runtime
        self._first = first
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Replayed(self._first, self.request))

    def do_GET(self) -> None:
        self._respond()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_GET

    def _respond(self) -> None:
        try:
            body = self._read_body()
            answer = self._route(body)
        except Problem as problem:
            answer = problem.answer()
        if answer.form == FORM_PROBLEM:
            answer = answer._replace(body=_completed(answer))
        self.send_response(answer.status)
        is_problem = answer.form == FORM_PROBLEM
        self.send_header("Content-Type", "application/problem+json" if is_problem else "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _read_body(self) -> bytes:
        """Raises Problem, after which the connection cannot be used again: the rest of the body is unread."""
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Problem(411, "length_required", "The request has no Content-Length.", "Send the body in one piece.")
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if length < 0:
            self.close_connection = True
            raise Problem(400, "bad_request", "The Content-Length is not a number.")
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            raise Problem(413, "too_large", f"The body of {length} bytes is over the limit of {MAX_BODY_BYTES} bytes.")
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            raise Problem(400, "bad_request", f"The body ended after {len(body)} of {length} bytes.")
        return body

    def _route(self, body: bytes) -> Answer:
        path, _, query = self.path.partition("?")
        methods = _ROUTES.get(path)
        if methods is None:
            raise Problem(404, "not_found", f"There is no {path}.", f"There are {', '.join(_ROUTES)}.")
        if self.command not in methods:
            raise Problem(405, "method_not_allowed", f"{path} takes {methods[0]}, not {self.command}.")
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if not self._runtime.admits(token.strip() if scheme.lower() == "bearer" else None):
            raise Problem(401, "unauthorized", "This runtime needs its token.", "Send Authorization: Bearer <token>.")
        if path == "/predict":
            return self._predict(Request(body, options=_options(query)))
        return Answer(_to_json(self._health() if path == "/health" else self._runtime.welcome))

    def _predict(self, request: Request) -> Answer:
        answers, _, _ = self._runtime.predict([request])
        return answers[0]

    def _health(self) -> Dict[str, Any]:
        """Raises Problem 503 unless one of the samples is answered."""
        refusal: Optional[Answer] = None
        for sample in self._runtime.welcome["samples"]:
            answer = self._predict(Request(_to_json(sample)))
            if answer.status == HTTPStatus.OK:
                return {"status": "ok"}
            refusal = refusal or answer
        reason = json.loads(refusal.body)["detail"] if refusal else "there is no sample"
        raise Problem(503, "unhealthy", f"The model does not answer its sample: {reason}")

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged here; what fails says so itself."""


def _options(query: str) -> int:
    wanted = parse_qs(query).get("probabilities", ["false"])[-1].lower()
    return OPTION_PROBABILITIES if wanted in ("1", "true", "yes") else 0


def _completed(answer: Answer) -> bytes:
    """The problem document that the gateway would have made of it."""
    members = json.loads(answer.body)
    title = HTTPStatus(answer.status).phrase
    return _to_json({"type": "about:blank", "title": title, "status": answer.status, **members})


def _to_json(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)
