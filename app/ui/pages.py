"""Pages for browsers, rendered from templates: whole pages, and the parts that htmx requests."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import Request
from fastapi.responses import HTMLResponse

from app.errors import Unavailable
from app.ui import figures

if TYPE_CHECKING:
    from fastapi.templating import Jinja2Templates

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; media-src data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, HX-Request",
}
"""Headers of every page: no inline script, no inline style, nothing from other hosts.

A model's name or log can therefore only ever be displayed as text.
"""


class Pages:
    """Renderer of pages. folder: holds the templates.

    Jinja2 (3 MB) is imported for the first page, so a server that only programs use never loads it.
    """

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
        """Render a template: a page (`*.html`) or a part of one (`partials/*.html`)."""
        later = {"Retry-After": "1"} if status == Unavailable.status else {}
        return self._templates.TemplateResponse(
            request, template, context, status_code=status, headers={**SECURITY_HEADERS, **later, **(headers or {})}
        )

    def render_either(
        self,
        request: Request,
        name: str,
        context: dict[str, Any],
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> HTMLResponse:
        """Render the part `name` for htmx and the whole page `name` for everyone else. Templates exist for both."""
        folder = "partials/" if wants_part(request) else ""
        return self.render(request, f"{folder}{name}.html", context, status=status, headers=headers)

    @cached_property
    def _templates(self) -> Jinja2Templates:
        from fastapi.templating import Jinja2Templates
        from jinja2 import Environment, FileSystemLoader

        loader = FileSystemLoader(self._folder)
        environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.filters.update(
            size=figures.size,
            memory=figures.memory,
            ms=figures.milliseconds,
            duration=figures.duration,
            significant=figures.significant,
            percent=figures.percent,
            ago=figures.ago,
            ahead=figures.ahead,
            when=figures.day_and_time,
            counted=figures.counted,
            as_json=as_json,
        )
        return Jinja2Templates(env=environment)


def as_json(value: Any, indent: int = 2) -> str:
    """Format a value as JSON for a person to read or edit. indent: 0 for a single line."""
    text = msgspec.json.encode(value)
    return (msgspec.json.format(text, indent=indent) if indent else text).decode()


def wants_part(request: Request) -> bool:
    """Return whether htmx sent the request and will insert the response into an open page."""
    return request.headers.get("hx-request") == "true"


def wants_page(request: Request) -> bool:
    """Return whether a browser sent the request to display the response."""
    return "text/html" in request.headers.get("accept", "") or wants_part(request)
