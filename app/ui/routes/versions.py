"""GET /model-versions: a model's versions, what differs between two of them, and the way back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.core.version_difference import difference
from app.lifecycle.deployments import Deployments
from app.lifecycle.versions import versions_to_compare
from app.ui.pages import Pages
from app.ui.routes.head import head_context
from app.ui.version_lines import changes_shown, version_lines

Version = Annotated[str, Query(max_length=50)]


def router(deployments: Deployments, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    state = deployments.state

    @routes.get("/model-versions")
    async def versions_page(
        request: Request, model_id: Annotated[str, Query()], before: Version = "", after: Version = ""
    ) -> HTMLResponse:
        model = state.find(model_id)
        lines = version_lines(model.name, deployments)
        found = None
        if len(lines) > 1:
            first, second = versions_to_compare(model.name, before, after or model.version, state)
            found = difference(first, second)
        context = {
            "model": model,
            "tab": "versions",
            "lines": lines,
            "found": found,
            "changes": [] if found is None else changes_shown(found),
            **head_context(request, model, state),
        }
        return pages.render(request, "versions.html", context)

    return routes
