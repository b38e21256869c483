"""GET /model-shadow: the shadow of a model. POST /shadows-ui: begin one. POST /shadows-ui/{id}/stop: stop it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from app.errors import NotFound
from app.lifecycle.rollouts.shadow_checks import ShadowRequest
from app.lifecycle.rollouts.shadows import Shadows
from app.lifecycle.state import DeploymentState
from app.ui.pages import Pages
from app.ui.rollout_view import candidates_of
from app.ui.routes.head import head_context
from app.ui.shadow_view import ShadowView, shadow_view


def router(state: DeploymentState, shadows: Shadows, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/model-shadow")
    async def shadow_page(request: Request, model_id: Annotated[str, Query()]) -> HTMLResponse:
        model = state.find(model_id)
        active = state.rollout(model.name)
        context = {
            "model": model,
            "tab": "shadow",
            "view": await newest(model.name),
            "candidates": candidates_of(model, state) if active is None else [],
            "begins": active is None,
            **head_context(request, model, state),
        }
        return pages.render_either(request, "shadow", context)

    async def newest(name: str) -> ShadowView | None:
        """Return the panel of a model's shadow, or of its last one; None if it had none. Raises CatalogUnavailable."""
        try:
            rollout = await shadows.find(name)
        except NotFound:
            return None
        return shadow_view(rollout, shadows.standing.versions(rollout), await shadows.report(rollout))

    @routes.post("/shadows-ui")
    async def begin(model_id: Annotated[str, Form()], shadow: Annotated[str, Form()]) -> RedirectResponse:
        model = state.find(model_id)
        await shadows.begin(ShadowRequest(model.name, "", shadow))
        return back_to(model.model_id)

    @routes.post("/shadows-ui/{rollout_id}/stop")
    async def stop(rollout_id: str) -> RedirectResponse:
        return back_to((await shadows.stop(rollout_id)).stable_id)

    def back_to(model_id: str) -> RedirectResponse:
        return RedirectResponse(f"/model-shadow?{urlencode({'model_id': model_id})}", 303)

    return routes
