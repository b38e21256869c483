"""GET and POST /login, POST /logout: a browser sends an admin key once and gets a session in return."""

from __future__ import annotations

import re
from time import monotonic
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.access.keys import Keys
from app.access.rate_limit import RateLimiter
from app.access.sessions import COOKIE, LIFETIME_SECONDS, Sessions
from app.errors import PrismError, Unauthorized
from app.http.bodies import limited_body
from app.http.guard import caller_address, check_own_page
from app.ui.pages import Pages

ATTEMPTS = 10
ATTEMPTS_WINDOW_SECONDS = 60
FORM_BYTES_MAX = 1 << 20

LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""Path on this server: exactly one leading slash, no backslash after it (browsers treat it as a slash), and no
characters that a browser would drop.
"""


def router(keys: Keys, sessions: Sessions, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    attempts = RateLimiter(ATTEMPTS, ATTEMPTS_WINDOW_SECONDS)

    def page(request: Request, back_to: str, error: PrismError | None = None) -> Response:
        context: dict[str, Any] = {"next": back_to, "setting": keys.of_admins, "error": error}
        headers = error.headers if error is not None else {}
        return pages.render(request, "login.html", context, status=error.status if error else 200, headers=headers)

    @routes.get("/login")
    async def login_page(request: Request, next: Annotated[str, Query()] = "/") -> Response:
        if not keys.of_admins or sessions.holds(request.cookies.get(COOKIE, "")):
            return RedirectResponse(local_path(next), 303)
        return page(request, local_path(next))

    @routes.post("/login")
    async def login(request: Request) -> Response:
        form = parse_qs((await limited_body(request, FORM_BYTES_MAX)).decode("utf-8", "replace"))
        key, back_to = form.get("key", [""])[0].strip(), local_path(form.get("next", ["/"])[0])
        if not keys.of_admins:
            return RedirectResponse(back_to, 303)
        try:
            attempts.take(caller_address(request), monotonic())
            if not keys.is_admin(key):
                hint = f"It must be one of {keys.of_admins}."
                raise Unauthorized("This is not an admin key." if key else "Enter an admin key.", hint=hint)
        except PrismError as error:
            return page(request, back_to, error)
        sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse(back_to, 303, {"Cache-Control": "no-store"})
        set_cookie(request, answer, sessions.begin())
        return answer

    @routes.post("/logout")
    async def logout(request: Request) -> Response:
        session = request.cookies.get(COOKIE, "")
        if sessions.holds(session):
            check_own_page(request)
            sessions.end(session)
        answer = RedirectResponse("/login" if keys.of_admins else "/", 303, {"Cache-Control": "no-store"})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return routes


def set_cookie(request: Request, answer: Response, session: str) -> None:
    """Set the session cookie, marked secure if the page was loaded over https.

    Behind a proxy that terminates TLS, only the Origin header shows that.
    """
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")
    answer.set_cookie(COOKIE, session, LIFETIME_SECONDS, secure=secure, httponly=True, samesite="strict")


def local_path(path: str) -> str:
    """Return the path if it leads to a page of this server, otherwise "/"."""
    return path if LOCAL_PATH.fullmatch(path) else "/"
