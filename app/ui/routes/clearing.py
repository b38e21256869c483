"""POST /dismiss: put aside what needs attention. GET and POST /delete-models: delete several versions at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from app.core.model import Status
from app.core.route_table import superseded
from app.errors import Conflict
from app.lifecycle.deployments import Deployments
from app.lifecycle.dismissal import dismiss
from app.ui.model_table import is_active
from app.ui.pages import Pages
from app.ui.statuses import badge

ModelIds = Annotated[list[str], Form(max_length=1000)]


def router(deployments: Deployments, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    state = deployments.state

    @routes.post("/dismiss")
    async def dismiss_all(model_id: ModelIds) -> RedirectResponse:
        for model in [state.find(each) for each in model_id]:
            await dismiss(model, deployments)
        return RedirectResponse("/", 303)

    @routes.get("/delete-models")
    async def choose(request: Request) -> HTMLResponse:
        """List the versions that do not run; those that failed before a newer one served are chosen.

        One that was replaced while it served is not: it may be wanted again.
        """
        entries = state.deployments()
        failed = {entry.model_id for entry in entries if entry.status is Status.FAILED}
        history = superseded(entries) & failed
        idle = [model for model in reversed(state.models()) if not is_active(state.deployment(model.model_id))]
        names = dict.fromkeys(model.name for model in idle)
        groups = [(name, [model for model in idle if model.name == name]) for name in names]
        shown = [
            (name, [(model, badge(state.deployment(model.model_id)), model.model_id in history) for model in versions])
            for name, versions in groups
        ]
        return pages.render(request, "delete_models.html", {"groups": shown})

    @routes.post("/delete-models")
    async def delete(model_id: ModelIds) -> RedirectResponse:
        """Delete the chosen versions. Raises Conflict, before anything is deleted, if one of them runs by now."""
        models = [model for model in map(state.model, model_id) if model is not None]
        for model in models:
            if is_active(state.deployment(model.model_id)):
                raise Conflict(f"`{model.ref}` runs by now; nothing was deleted.", hint="Choose again.")
        for model in models:
            await deployments.delete(model)
        return RedirectResponse("/", 303)

    return routes
