"""GET /: who this is, for programs; what runs here and what needs attention, for people."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api.health import NAME, VERSION
from app.lifecycle.ledger import Ledger
from app.ui.pages import Pages


def router(ledger: Ledger, pages: Pages) -> APIRouter:
    routes = APIRouter(tags=["server"])

    @routes.get("/", summary="Who this is", response_class=JSONResponse)
    async def dashboard(request: Request) -> Response:
        """JSON for programs; a page with the models for browsers."""
        if "text/html" in request.headers.get("accept", ""):
            models = [(model, ledger.deployment(model.model_id)) for model in reversed(ledger.models())]
            return pages.render(request, "index.html", {"models": models, "version": VERSION})
        links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/health", "models": "/models"}
        return JSONResponse({"name": NAME, "version": VERSION, **links}, headers={"Vary": "Accept"})

    return routes
