"""Has the running server examine its own machine: what it finds may differ from what a shell beside it would."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from app.runtime.doctor import examined
from app.settings import Settings
from app.version import VERSION


def router(settings: Settings) -> APIRouter:
    routes = APIRouter(tags=["server"])

    @routes.get("/doctor", summary="Check the server's machine")
    async def doctor() -> dict[str, Any]:
        """Tells what the server has and lacks for running models, by its own settings and rights.

        level: ok, warn or fail. fix: what to do, "" for nothing.
        """
        return {"version": VERSION, "checks": [asdict(check) for check in await examined(settings)]}

    return routes
