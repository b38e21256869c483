"""The interactive documentation, from files of our own: no browser of a user asks another site for anything."""

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
        """Where the `type` of every problem document leads."""
        return pages.render(request, "errors.html", {"errors": list(family(PrismError))})

    @cache
    def description(app: FastAPI) -> bytes:
        """Encode the description of every route, once: it is long, and whoever reaches the server may ask for it."""
        return msgspec.json.encode(app.openapi())

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return Response(description(request.app), media_type="application/json")

    return routes


def family(error: type[PrismError]) -> Iterator[type[PrismError]]:
    """An error and all below it, in the order of the tree."""
    yield error
    for child in error.__subclasses__():
        yield from family(child)
