"""The routes for shadows: begin one, stop it, and see how far it agrees with production."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.api.shadow_documents import report_document, shadow_document
from app.core.rollout.records import Rollout
from app.lifecycle.rollouts.shadow_checks import ShadowRequest
from app.lifecycle.rollouts.shadows import Shadows


class NewShadow(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "fraud", "production_version": "1.4.0", "shadow_version": "2.0.0"}]},
    )

    name: str = Field(description="Name of the model.")
    shadow_version: str = Field(
        description="Version that gets copies of the requests: its number, `name@version` or its model_id."
    )
    production_version: str = Field(
        "", description="Version that answers the requests; refused if another one does. Default: the one that does."
    )
    allow_signature_change: bool = Field(
        False, description="Begin although the shadow does not take all that production does."
    )

    def request(self) -> ShadowRequest:
        return ShadowRequest(self.name, self.production_version, self.shadow_version, self.allow_signature_change)


class ShadowRoutes:
    """The routes, a method each: it decodes the request, calls the lifecycle, and encodes the answer."""

    def __init__(self, shadows: Shadows) -> None:
        self._shadows = shadows

    def router(self) -> APIRouter:
        """Return the table of the routes."""
        routes = APIRouter(tags=["rollouts"])
        routes.post("/deployments/shadow", status_code=201, summary="Begin a shadow")(self.begin)
        routes.post("/deployments/{rollout_id}/stop", summary="Stop a shadow")(self.stop)
        routes.get("/monitoring/shadow/{name}", summary="Report of a shadow")(self.report)
        return routes

    async def begin(self, wanted: NewShadow) -> Response:
        """Sends a version copies of the requests for a name, after production has answered them.

        Callers get production's answers alone. The version is started and probed first, unless it serves already.
        """
        rollout = await self._shadows.begin(wanted.request())
        return JSONResponse(self._document(rollout), 201, {"Location": f"/deployments/{rollout.id}"})

    async def stop(self, rollout_id: str) -> dict[str, Any]:
        """Sends no more copies. The version keeps running, without requests; what was found is kept."""
        return self._document(await self._shadows.stop(rollout_id))

    async def report(self, name: str) -> dict[str, Any]:
        """Returns how far the answers of a model's shadow agree with production's, its last one's if none acts."""
        rollout = await self._shadows.find(name)
        report = await self._shadows.report(rollout)
        return report_document(rollout, self._shadows.standing.versions(rollout), report)

    def _document(self, rollout: Rollout) -> dict[str, Any]:
        return shadow_document(rollout, self._shadows.standing.versions(rollout))
