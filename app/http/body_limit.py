"""A bound on bodies that FastAPI reads whole before a route, and so before anybody is asked for a key."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.bodies import body_too_large
from app.http.problems import error_form, problem_response

UPLOADS = re.compile(r"/(models|api)(/.*)?")
"""Paths whose bodies are read block by block, after the key, up to a limit of their own."""

SLACK_BYTES = 1 << 20
"""Room past the limit for a route that counts by itself: its error says more than this one, so it comes first."""


class BodyLimit:
    """ASGI middleware that bounds the bodies of all requests but UPLOADS."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or UPLOADS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self._max_bytes + SLACK_BYTES else {"type": "http.disconnect"}

        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and (len(declared) > len(str(self._max_bytes)) or int(declared) > self._max_bytes):
            refusal = body_too_large(self._max_bytes).problem()
            answer = problem_response(refusal, scope.get("request_id", ""), form=error_form(scope, scope["path"]))
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive_some, send)
