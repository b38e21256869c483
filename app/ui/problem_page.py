"""Page for a problem: what happened, what to do next, and a link back."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response

from app.http.problems import Page
from app.ui.pages import Pages, wants_page


def problem_page(pages: Pages) -> Page:
    """Return the function that renders problems as pages, for `app.http.problems.install`."""

    def shown(request: Request, problem: dict[str, Any], headers: dict[str, str]) -> Response | None:
        if not wants_page(request):
            return None
        context = {"problem": problem, "back": way_back(request)}
        return pages.render_either(request, "problem", context, status=problem["status"], headers=headers)

    return shown


def way_back(request: Request) -> str:
    """Return the path of our page that the browser came from; "/" if it came from elsewhere."""
    referrer = urlsplit(request.headers.get("referer", ""))
    path = "/" + referrer.path.lstrip("/\\")  # two slashes would name another host
    if referrer.netloc != request.headers.get("host", "") or path == request.url.path:
        return "/"
    return f"{path}?{referrer.query}" if referrer.query else path
