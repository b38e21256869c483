"""Page to choose a model, for addresses of model pages that name none."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from app.core.model import Deployment
from app.core.route_table import is_serving
from app.lifecycle.state import DeploymentState
from app.ui.pages import Pages
from app.ui.statuses import badge


def choose_model(
    request: Request,
    state: DeploymentState,
    pages: Pages,
    title: str,
    fits: Callable[[Deployment], bool] = lambda _: True,
) -> Response:
    """Redirect to the only model that fits, or list all models: first those that serve, then the newest.

    The chosen model is opened on the same page, with the rest of the query unchanged.
    """
    known = [(model, state.deployment(model.model_id)) for model in reversed(state.models())]
    fitting = [model for model, deployment in known if fits(deployment)]
    if len(fitting) == 1:
        return RedirectResponse(page_for(request, fitting[0].model_id), 303, {"Cache-Control": "no-store"})
    known.sort(key=lambda pair: not is_serving(pair[1]))
    choices = [(model, badge(deployment), page_for(request, model.model_id)) for model, deployment in known]
    return pages.render(request, "choose.html", {"title": title, "choices": choices})


def page_for(request: Request, model_id: str) -> str:
    url = request.url.include_query_params(model_id=model_id)
    return f"{url.path}?{url.query}"
