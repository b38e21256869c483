"""Pages for browsers, from templates."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import HTMLResponse

if TYPE_CHECKING:
    from fastapi.templating import Jinja2Templates


class Pages:
    """folder: of the templates. Jinja2 (3 MB) comes with the first page: a server that programs use has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def render(
        self, request: Request, template: str, context: dict[str, Any], headers: dict[str, str] | None = None
    ) -> HTMLResponse:
        return self._templates.TemplateResponse(request, template, context, headers=headers)

    @cached_property
    def _templates(self) -> Jinja2Templates:
        from fastapi.templating import Jinja2Templates

        return Jinja2Templates(self._folder)
