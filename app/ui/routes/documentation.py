"""Interactive API documentation, served from this server's own files: a user's browser contacts no other site."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from app.errors import PrismError
from app.ui.pages import Pages


def router(pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        return pages.render(request, "docs.html", {})

    @routes.get("/docs/errors")
    async def errors(request: Request) -> HTMLResponse:
        """Show all errors. The `type` of every problem document links here."""
        return pages.render(request, "errors.html", {"errors": list(family(PrismError))})

    @cache
    def description(app: FastAPI) -> bytes:
        """Encode the OpenAPI description once: it is long, and anyone who reaches the server may request it."""
        return msgspec.json.encode(app.openapi())

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return Response(description(request.app), media_type="application/json")

    return routes


def family(error: type[PrismError]) -> Iterator[type[PrismError]]:
    """Yield an error class and all its subclasses, in the order of the tree."""
    yield error
    for child in error.__subclasses__():
        yield from family(child)
