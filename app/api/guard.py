"""What every request passes first: it gets an id, and it must come from where requests may come from.

A page on another site can make a browser post a form to 127.0.0.1, and a host name that is rebound to 127.0.0.1
can even read the answer. So a request must name this server as its Host, and one that says its Origin must come
from here.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.core.hosts import Hosts
from app.dispatch.admit import REQUEST_ID, Keys, sent_key
from app.errors import Forbidden


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = scope["request_id"] = request_id_from(headers.get("x-request-id", ""))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        refusal = self._refusal(headers)
        if refusal is not None:
            await problem_response(refusal.problem(), request_id)(scope, receive, send_with_id)
        else:
            await self._app(scope, receive, send_with_id)

    def _refusal(self, headers: Headers) -> Forbidden | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) > 1:
            return Forbidden("The request names two hosts.", hint="Send one Host header.")
        if not self._hosts.known(host):
            return Forbidden(
                f"This server is not known as `{host[:100]}`.",
                hint="Use its address or localhost, or add the name to PRISM_ALLOWED_HOSTS.",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return Forbidden(
                f"A page of `{origin[:100]}` may not use this server.",
                hint="Open the dashboard of this server itself, or call the API from a program.",
            )
        return None


def request_id_from(given: str) -> str:
    """The caller's own id if it is a sane one, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def api_key(headers: Headers) -> str:
    """The key that a request carries, "" for none."""
    return sent_key(headers.get("x-api-key"), headers.get("authorization", ""))


def caller_address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


class RequireKey:
    """A dependency of every route that is not open to all. Raises Unauthorized."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __call__(self, request: Request) -> None:
        self._keys.caller(api_key(request.headers), caller_address(request))
