"""GET /v1/models, which belongs to every protocol below /v1: its answer has the members that each one's clients read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from app.protocols.handler import InferenceHandler

Members = Callable[[], dict[str, Any]]
"""Returns the members of the answer that one protocol's clients read."""


def router(asking: InferenceHandler, *protocols: Members) -> APIRouter:
    """Return the route; it is not for surfaces where callers may know only some of the models."""
    routes = APIRouter(tags=["KServe V1"])

    @routes.get("/v1/models", summary="List live models")
    async def models(request: Request) -> dict[str, Any]:
        """Answers `{"models": […]}`, the names, as KServe does."""
        asking.caller(request)
        return {name: value for members in protocols for name, value in members().items()}

    return routes
