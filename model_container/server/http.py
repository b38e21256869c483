"""HTTP server of a runtime without a gateway, as in `docker run -p 8080:8080 image`; http_routes.py has the paths."""

from __future__ import annotations

import io
import socket
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from model_container.bodies.problems import Problem
from model_container.server import http_routes
from model_container.server.http_answers import told_problem
from model_container.server.http_routes import HttpRequest, Routes
from model_container.server.http_streams import Parts, in_chunks
from model_container.server.stream import is_gone

MAX_BODY_BYTES = 64 << 20
IDLE_SECONDS = 30.0


class Runtime(http_routes.Runtime, Protocol):
    """Part of the server that the HTTP handler uses."""

    def admits(self, token: object) -> bool: ...


def answer_http(runtime: Runtime, connection: socket.socket, first: bytes) -> None:
    """Answer requests until the client closes. first: bytes already read from the connection."""
    connection.settimeout(IDLE_SECONDS)
    _Handler(runtime, connection, first)


class _Replayed(io.RawIOBase):
    """Reader of the connection that starts with the bytes already read."""

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
        self._routes = Routes(runtime, MAX_BODY_BYTES)
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
        path, _, query = self.path.partition("?")
        path = self._runtime.aliases.get(path, path)
        try:
            body = self._read_body()
            self._check_token()
            response = self._routes.answer(HttpRequest(self.command, path, query, self.headers, body))
        except Problem as problem:
            response = told_problem(path, problem)
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        if response.parts is None:
            self.send_header("Content-Length", str(len(response.body)))
        elif self.request_version == "HTTP/1.1":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True  # in HTTP/1.0, closing the connection ends the body
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if response.parts is not None:
            self._send(response.parts if self.close_connection else in_chunks(response.parts))
        elif self.command != "HEAD":
            self.wfile.write(response.body)

    def _send(self, parts: Parts) -> None:
        """Send the parts no faster than the client reads them. Raises OSError once the client has closed."""
        with closing(parts):
            for part in parts:
                if is_gone(self.request):
                    raise ConnectionResetError("the client has disconnected")
                self.wfile.write(part)

    def _read_body(self) -> bytes:
        """Read the request body.

        After a Problem the connection cannot be used again, because the rest of the body is unread.
        """
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

    def _check_token(self) -> None:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if not self._runtime.admits(token.strip() if scheme.lower() == "bearer" else None):
            raise Problem(
                401, "unauthorized", "This runtime requires its token.", "Send Authorization: Bearer <token>."
            )

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests are not logged here, and failures are logged where they occur."""
