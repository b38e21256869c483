"""GET /model, and GET /models/{ref} in a browser: the page of one version. POST /models-ui/…: start, stop, restart, scale and delete it from a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from app.core.model import ModelVersion
from app.lifecycle.chaos import ActiveChaos
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.usage import UsageSampler
from app.lifecycle.intake.register import replica_number
from app.observe.history import History
from app.ui.model_view import model_view, shape_text, type_text
from app.ui.pages import Pages, wants_page
from app.ui.routes.head import head_context


class PageRoute(APIRoute):
    """Route that only browsers reach: for programs the same path is a resource of the API."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if wants_page(Request(scope)) else (Match.NONE, {})


def router(
    deployments: Deployments,
    history: History,
    vitals: UsageSampler,
    circuits: Callable[[str], Mapping[str, str]],
    chaos: Callable[[str], ActiveChaos | None],
    pages: Pages,
) -> APIRouter:
    """Return the routes of model pages.

    circuits: returns a model's breaker states by replica id. chaos: returns what breaks a model on purpose now.
    """
    routes = APIRouter(include_in_schema=False)
    named = APIRouter(include_in_schema=False, route_class=PageRoute)
    state = deployments.state
    verbs: dict[str, Callable[[ModelVersion], Awaitable[object]]] = {
        "start": deployments.start,
        "stop": deployments.stop,
        "restart": deployments.restart,
    }

    @routes.get("/model")
    async def model_page(request: Request, model_id: Annotated[str, Query()]) -> HTMLResponse:
        return await shown(request, model_id)

    @named.get("/models/{name}")
    async def named_page(request: Request, name: str) -> HTMLResponse:
        return await shown(request, name)

    async def shown(request: Request, ref: str) -> HTMLResponse:
        base_url = str(request.base_url).rstrip("/")
        model = state.find(ref)
        view = await model_view(model, deployments, history, vitals, circuits(model.model_id), base_url)
        context = {
            "view": view,
            "chaos": chaos(model.model_id),
            "model": view.model,
            "deployment": view.deployment,
            "tab": "overview",
            "type_told": type_text,
            "shape_told": shape_text,
        }
        return pages.render_either(request, "model", {**context, **head_context(request, model, state)})

    @routes.get("/delete-model")
    async def delete_page(request: Request, model_id: Annotated[str, Query()]) -> HTMLResponse:
        model = state.find(model_id)
        removal = await deployments.removal(model)
        context = {"model": model, "deployment": state.deployment(model.model_id), "removal": removal}
        return pages.render(request, "delete.html", context)

    @routes.post("/models-ui/{model_id}/scale")
    async def scale(model_id: str, replicas: Annotated[str, Form()]) -> RedirectResponse:
        model = state.find(model_id)
        await deployments.scale(model, replica_number(replicas))
        return RedirectResponse(f"/model?model_id={model.model_id}", 303)

    @routes.post("/models-ui/{model_id}/delete")
    async def delete(model_id: str) -> RedirectResponse:
        await deployments.delete(state.find(model_id))
        return RedirectResponse("/", 303)

    @routes.post("/models-ui/{model_id}/{verb}")
    async def act(model_id: str, verb: Literal["start", "stop", "restart"]) -> RedirectResponse:
        model = state.find(model_id)
        await verbs[verb](model)
        return RedirectResponse(f"/model?model_id={model.model_id}", 303)

    routes.include_router(named)
    return routes
