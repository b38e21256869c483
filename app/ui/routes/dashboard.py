"""GET /: the server's name and links for programs; the dashboard for browsers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from app.lifecycle.deployments import Deployments
from app.lifecycle.health.monitor import Monitor
from app.lifecycle.health.usage import UsageSampler
from app.lifecycle.intake.sample import deploy_sample
from app.lifecycle.models_folder.watcher import ModelsFolder
from app.observe.history import History
from app.runtime.doctor import disk
from app.settings import Settings
from app.ui.model_table import Filter, Wish
from app.ui.overview import overview
from app.ui.pages import Pages, wants_page
from app.version import NAME, VERSION


def router(
    deployments: Deployments,
    models_folder: ModelsFolder,
    history: History,
    vitals: UsageSampler,
    pages: Pages,
    settings: Settings,
    monitor: Monitor,
) -> APIRouter:
    routes = APIRouter(tags=["server"])

    @routes.get("/", summary="Server information", response_class=JSONResponse)
    async def dashboard(
        request: Request,
        page: Annotated[int, Query(ge=1, description="Of the page's table; for browsers.")] = 1,
        search: Annotated[str, Query(max_length=200, description="Part of a model's name; for browsers.")] = "",
        only: Annotated[Filter, Query(description="Status of the models in the table; for browsers.")] = "all",
    ) -> Response:
        """Return the server's name, version and links as JSON. Browsers get a page with the models instead."""
        if wants_page(request):
            shown = await overview(
                deployments,
                models_folder,
                history,
                vitals,
                disk(settings),
                monitor.unavailable,
                Wish(search, only, page),
            )
            return pages.render_either(
                request, "index", {"overview": shown, "max_upload_bytes": settings.max_upload_mb << 20, "refusal": None}
            )
        links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/health", "models": "/models"}
        return JSONResponse({"name": NAME, "version": VERSION, **links}, headers={"Vary": "Accept"})

    @routes.post("/deploy-sample", include_in_schema=False)
    async def sample() -> RedirectResponse:
        model = await deploy_sample(deployments)
        return RedirectResponse(f"/model?model_id={model.model_id}", 303)

    return routes
