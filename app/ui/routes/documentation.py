"""Documentation of the API, with this server's models as examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from app.core.model import ModelVersion
from app.core.route_table import is_serving
from app.errors import PrismError
from app.lifecycle.state import DeploymentState
from app.ui.api_reference import Operation, reference
from app.ui.pages import Pages
from app.ui.snippets import Snippet, snippets

MODELS_SHOWN = 5
"""Enough to see how they are called. The predict page of each model shows its call, too."""


def router(
    pages: Pages, state: DeploymentState, may_see_models: Callable[[Request], bool], needs_key: Callable[[], bool]
) -> APIRouter:
    """Return the routes. The documentation is open to all; its models are for those who may see them."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        live = [model for model in state.models() if is_serving(state.deployment(model.model_id))]
        seen = live if may_see_models(request) else []
        models = list(examples(request, seen[:MODELS_SHOWN]))
        context = {"models": models, "more": len(seen) - len(models), "groups": groups(request.app)}
        return pages.render(request, "docs.html", context)

    def examples(request: Request, models: Sequence[ModelVersion]) -> Iterator[tuple[ModelVersion, Snippet | None]]:
        """Yield each model with a request to it; None for a model without a sample."""
        base_url = str(request.base_url).rstrip("/")
        for model in models:
            sample = model.findings.sample
            made = snippets(base_url, model.ref, sample, probabilities=False, needs_key=needs_key())
            yield model, None if sample is None else made[0]

    @routes.get("/docs/errors")
    async def errors(request: Request) -> HTMLResponse:
        """Show all errors. The `type` of every problem document links here."""
        return pages.render(request, "errors.html", {"errors": list(family(PrismError))})

    @cache
    def groups(app: FastAPI) -> list[tuple[str, list[Operation]]]:
        return reference(app.openapi())

    @cache
    def description(app: FastAPI) -> bytes:
        """Encode the OpenAPI description once: it is long, and anyone who reaches the server may request it."""
        return msgspec.json.encode(app.openapi())

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return Response(description(request.app), media_type="application/json")

    return routes


def family(error: type[PrismError]) -> Iterator[type[PrismError]]:
    """Yield an error class and all its subclasses, in the order of the tree."""
    yield error
    for child in error.__subclasses__():
        yield from family(child)
