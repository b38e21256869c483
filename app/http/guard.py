"""Guards every request first: it gets an id, its origin is checked, and so is the right to change something.

A page on another site can make a browser post a form to 127.0.0.1, and a host name that is rebound to 127.0.0.1
can even read the answer. So a request must name this server as its Host, and one that says its Origin must come
from here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.admins import AdminCheck
from app.access.admission import REQUEST_ID
from app.access.hosts import HostAllowList, is_direct, is_host, is_loopback
from app.access.keys import Keys, extract_api_key
from app.access.sessions import COOKIE, Sessions
from app.access.throttle import FailedKeyThrottle
from app.errors import BadInput, ExpectationFailed, Forbidden, PrismError, Unauthorized
from app.http.problems import error_form, problem_response


class RequestIdMiddleware:
    """ASGI middleware that gives every request its id, and refuses some. To be derived from."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def refusal(self, scope: Scope) -> PrismError | None:
        """Return why this request goes no further; None if it does."""
        raise NotImplementedError

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

        refusal = malformed(headers) or self.refusal(scope)
        if refusal is not None:
            form = error_form(scope, scope["path"])
            response = problem_response(refusal.problem(), request_id, refusal.headers, form)
            await response(scope, receive, send_with_id)
        else:
            await self._app(scope, receive, send_with_id)


def malformed(headers: Headers) -> PrismError | None:
    """Return the refusal of headers that no server could answer; None for sound ones."""
    hosts = headers.getlist("host")
    if len(hosts) != 1:
        fault = "has more than one Host header" if hosts else "has no Host header"
        return BadInput(f"The request {fault}.", hint="Send one Host header.")
    if not is_host(hosts[0]):
        return BadInput(
            f"`{hosts[0][:100]}` is not a valid host.",
            hint="Send a name or an address, with or without a port, as Host.",
        )
    expected = headers.get("expect", "")
    if expected and expected.lower() != "100-continue":
        return ExpectationFailed(f"This server cannot meet `Expect: {expected[:100]}`.", hint="Leave that header out.")
    return None


class HostOriginMiddleware(RequestIdMiddleware):
    """Lets through what names this server as its host and comes from no other site.

    only_here: and what arrived at a loopback address or a Unix socket. Whoever runs uvicorn itself chooses where it listens.
    """

    def __init__(self, app: ASGIApp, hosts: HostAllowList, *, only_here: bool = False) -> None:
        super().__init__(app)
        self._hosts = hosts
        self._only_here = only_here

    def refusal(self, scope: Scope) -> Forbidden | None:
        listener = scope.get("server")
        if self._only_here and listener is not None and listener[1] is not None and not is_loopback(listener[0]):
            return Forbidden(
                f"This server listens on {listener[0]}, which other machines can reach, but no admin key is set.",
                hint="Set PRISM_ADMIN_KEYS, or listen on 127.0.0.1.",
            )
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._hosts.known(host):
            return Forbidden(
                f"This server is not known as `{host[:100]}`.",
                hint="Use its address or localhost, or add the name to PRISM_ALLOWED_HOSTS.",
            )
        origin = headers.get("origin")
        if origin is not None and not same_site(origin, host):
            return Forbidden(
                f"A page on `{origin[:100]}` may not use this server.",
                hint="Open the dashboard of this server itself, or call the API from a program.",
            )
        return None


def same_site(origin: str, host: str) -> bool:
    """Return whether an Origin is that of a page which was fetched under this Host."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def request_id_from(given: str) -> str:
    """Return the caller's own id if it is well formed, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def api_key(headers: Headers) -> str:
    """Return the key that a request carries, "" for none."""
    return extract_api_key(headers.get("x-api-key"), headers.get("authorization", ""))


def caller_address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


def is_direct_request(request: Request) -> bool:
    """Return whether nothing shows a proxy or a tunnel between the caller and this server."""
    headers = request.headers
    return is_direct(headers.get("host", ""), headers.keys())


READABLE = frozenset(
    (
        "/models",
        "/models/{ref}",
        "/models/{ref}/openapi.json",
        "/models/{name}/versions",
        "/models/{name}/diff",
        "/registry",
        "/registry/{model_id}",
        "/metrics",
    )
)
"""Routes whose GET every valid key opens. What is not named here, and whatever changes something, is for admins."""


class LoginNeeded(Exception):
    """A browser asks for a page, and nobody is logged in. `redirect_to_login` answers it."""


async def redirect_to_login(request: Request, _: Exception) -> Response:
    path: bytes = request.scope["raw_path"]
    return RedirectResponse(login_path(path.decode("latin-1"), request.url.query), 303, {"Cache-Control": "no-store"})


def login_path(path: str, query: str) -> str:
    """Return the path of the login page that leads back to this path and query, both as they stand in a URL."""
    return "/login?next=" + quote(f"{path}?{query}" if query else path or "/")


class RequireAdmin:
    """A dependency of the routes that are for admins: who has an admin key, or a session that began with one.

    Open to all where no key is set; the server then listens on loopback alone. The key of another may read what is
    READABLE. open_to: requests that need no key at all.
    Raises Unauthorized, Forbidden, LoginNeeded, or RateLimited after too many wrong keys.
    """

    def __init__(
        self,
        keys: Keys,
        sessions: Sessions,
        wrong_keys: FailedKeyThrottle,
        open_to: Callable[[Request], bool] = lambda _: False,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._admins = AdminCheck(keys, wrong_keys)
        self._open_to = open_to

    def __call__(self, request: Request) -> None:
        if not self._keys.of_admins or self._open_to(request):
            return
        key = api_key(request.headers)
        if key:
            is_readable = request.method == "GET" and request.scope["route"].path in READABLE
            self._admins.check(key, caller_address(request), self._hint, any_key=is_readable)
        elif self._sessions.holds(request.cookies.get(COOKIE, "")):
            check_own_page(request)
            request.state.session = True
        else:
            raise self._refusal(request)

    def admits(self, request: Request) -> bool:
        """Return whether the request would pass."""
        try:
            self(request)
        except (PrismError, LoginNeeded):
            return False
        return True

    def _refusal(self, request: Request) -> Exception:
        part = request.headers.get("hx-request") == "true"
        if request.method == "GET" and not part and "text/html" in request.headers.get("accept", ""):
            return LoginNeeded()
        refusal = Unauthorized("No admin key was sent, and the browser is not logged in.", hint=self._hint)
        if part:
            refusal.headers["HX-Redirect"] = login_path(*htmx_page(request))
        return refusal

    @property
    def _hint(self) -> str:
        return f"Send one of {self._keys.of_admins} as `X-API-Key: …`, or log in at /login."


def htmx_page(request: Request) -> tuple[str, str]:
    """Return path and query of the page for which htmx asks."""
    try:
        url = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        return "/", ""
    return url.path, url.query


def check_own_page(request: Request) -> None:
    """Check that a change that comes with a cookie comes from a page of this server.

    A browser sends the cookie with a request that any page causes. A request with an Origin of another site does not
    get as far as here. Raises Forbidden for one without an Origin, unless Sec-Fetch-Site says `same-origin`.
    """
    if request.method in ("GET", "HEAD", "OPTIONS") or "origin" in request.headers:
        return
    if request.headers.get("sec-fetch-site") != "same-origin":
        raise Forbidden(
            "The request has a session cookie but does not say which page sent it.",
            hint="Programs should send a key as `X-API-Key: …` instead of a cookie.",
        )
