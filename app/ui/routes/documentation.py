"""The interactive documentation, from files of our own: no browser of a user asks another site for anything."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from app.errors import PrismError
from app.ui.pages import Pages

ASSETS = "/static/vendor/swagger-ui"


def router(pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="PRISM API",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon-32x32.png",
        )

    @routes.get("/docs/errors")
    async def errors(request: Request) -> HTMLResponse:
        """Where the `type` of every problem document leads."""
        return pages.render(request, "errors.html", {"errors": list(family(PrismError))})

    return routes


def family(error: type[PrismError]) -> Iterator[type[PrismError]]:
    """An error and all below it, in the order of the tree."""
    yield error
    for child in error.__subclasses__():
        yield from family(child)
