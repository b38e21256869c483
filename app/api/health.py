"""Is the server well, what is its monitor doing, and who is it."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api.pages import Pages
from app.core.route_table import serves
from app.lifecycle.deployments import Deployments
from app.lifecycle.monitor import Monitor

NAME = "PRISM"
VERSION = version("prism-serve")


def router(deployments: Deployments, monitor: Monitor, pages: Pages, enabled: bool) -> APIRouter:
    routes = APIRouter(tags=["server"])
    ledger = deployments.ledger

    @routes.get("/", summary="Who this is", response_class=JSONResponse)
    async def identity(request: Request) -> Response:
        """JSON for programs; a page with the models for browsers."""
        if "text/html" in request.headers.get("accept", ""):
            models = [(model, ledger.deployment(model.model_id)) for model in reversed(ledger.models())]
            return pages.render(request, "index.html", {"models": models, "version": VERSION}, {"Vary": "Accept"})
        links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/health", "models": "/models"}
        return JSONResponse({"name": NAME, "version": VERSION, **links}, headers={"Vary": "Accept"})

    @routes.get("/health", summary="Is the server well")
    async def health() -> dict[str, Any]:
        """status is "ok", or "degraded" while a model that is wanted takes no traffic."""
        entries = ledger.deployments()
        down = [one.model_id for one in entries if one.wanted and not serves(one)]
        counts = Counter(one.status.value for one in entries)
        return {"status": "degraded" if down else "ok", "version": VERSION, "models": counts, "down": down}

    @routes.get("/health/monitor", summary="What the monitor sees")
    async def monitor_health() -> dict[str, Any]:
        """last_cycle is null until the first cycle has ended."""
        return {"enabled": enabled, "running": monitor.running, "last_cycle": monitor.figures or None}

    return routes
