"""Pages for browsers, from templates: whole ones, and the parts of them that htmx asks for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import HTMLResponse

if TYPE_CHECKING:
    from fastapi.templating import Jinja2Templates

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, HX-Request",
}
"""No inline script, no inline style, nothing from elsewhere: what a model's name or log says can only ever be text."""


class Pages:
    """folder: of the templates. Jinja2 (3 MB) comes with the first page: a server that programs use has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def render(
        self,
        request: Request,
        template: str,
        context: dict[str, Any],
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> HTMLResponse:
        """A template: a page (`*.html`) or a part of one (`partials/*.html`)."""
        return self._templates.TemplateResponse(
            request, template, context, status_code=status, headers={**SECURITY_HEADERS, **(headers or {})}
        )

    @cached_property
    def _templates(self) -> Jinja2Templates:
        from fastapi.templating import Jinja2Templates

        return Jinja2Templates(self._folder)


def wants_part(request: Request) -> bool:
    """Whether htmx asks, who puts the answer into a page that is there already."""
    return request.headers.get("hx-request") == "true"
