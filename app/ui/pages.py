"""Pages for browsers, from templates: whole ones, and the parts of them that htmx asks for."""

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
        """`name` is both a page and the part of it that changes: the part for htmx, the whole for everyone else."""
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
            when=figures.day_and_time,
            counted=figures.counted,
            as_json=as_json,
        )
        return Jinja2Templates(env=environment)


def as_json(value: Any, indent: int = 2) -> str:
    """For a person to read or edit; 0 for one line."""
    text = msgspec.json.encode(value)
    return (msgspec.json.format(text, indent=indent) if indent else text).decode()


def wants_part(request: Request) -> bool:
    """Whether htmx asks, who puts the answer into a page that is there already."""
    return request.headers.get("hx-request") == "true"


def wants_page(request: Request) -> bool:
    """Whether a browser asks for something to show."""
    return "text/html" in request.headers.get("accept", "") or wants_part(request)
