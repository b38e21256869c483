"""Share panel of a model's page, and the actions of its two buttons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.api.share import names_to_share
from app.core.model import ModelVersion
from app.core.route_table import is_serving
from app.errors import PrismError
from app.lifecycle.state import DeploymentState
from app.share.share import Share
from app.share.tunnel import NewKey
from app.ui.pages import Pages, wants_part

Access = Literal["keys", "key", "open"]
CHOICES: dict[Access, str] = {
    "keys": "People with an existing API key",
    "key": "People with a new key for this link",
    "open": "Anyone with the link, without a key",
}


def share_context(
    request: Request,
    model: ModelVersion,
    *,
    access: Access | None = None,
    key: NewKey | None = None,
    error: PrismError | None = None,
) -> dict[str, Any]:
    """Return `share` for partials/share.html.

    access: the chosen access. key: a key made just now. error: why the requested action failed.
    """
    share: Share = request.app.state.share
    status = share.status
    shared = model.name in status.models
    problem = error.problem() if error is not None else status.error
    return {
        "share": {
            "state": status.state.value,
            "is_shared": shared,
            "serves": is_serving,
            "is_answer": request.method == "POST" and request.url.path.startswith("/share-ui/"),
            "public_url": status.public_url(model.name),
            "others": [name for name in status.models if name != model.name],
            "open": status.open_to_all,
            "warning": status.warning if status.is_on else "",
            "error": problem,
            "key": key,
            "choices": [item for item in CHOICES.items() if share.has_keys or item[0] != "keys"],
            "choice": access or ("keys" if share.has_keys else "key"),
        }
    }


def router(share: Share, state: DeploymentState, pages: Pages) -> APIRouter:
    routes = APIRouter(prefix="/share-ui/{model_id}", include_in_schema=False)

    @routes.get("")
    async def panel(request: Request, model_id: str) -> Response:
        model = state.find(model_id)
        return render(request, model, share_context(request, model)) if wants_part(request) else back_to(model)

    @routes.post("")
    async def start(request: Request, model_id: str, access: Annotated[Access, Form()]) -> Response:
        """Share the model. A new key is shown on the page of this response, since it can be shown only this once."""
        model = state.find(model_id)
        try:
            names = names_to_share(state, [model_id])
            key = await share.start(names, create_key=access == "key", open_to_all=access == "open")
        except PrismError as error:
            return render(request, model, share_context(request, model, access=access, error=error), error.status)
        if key is None and not wants_part(request):
            return back_to(model)
        return render(request, model, share_context(request, model, key=key))

    @routes.post("/stop")
    async def stop(request: Request, model_id: str) -> Response:
        model = state.find(model_id)
        await share.stop(model.name)
        return render(request, model, share_context(request, model)) if wants_part(request) else back_to(model)

    def render(request: Request, model: ModelVersion, context: dict[str, Any], status: int = 200) -> HTMLResponse:
        template = "partials/share.html" if wants_part(request) else "share.html"
        more = {"model": model, "deployment": state.deployment(model.model_id), "tab": "overview"}
        return pages.render(request, template, {**context, **more}, status=status)

    return routes


def back_to(model: ModelVersion) -> RedirectResponse:
    return RedirectResponse(f"/model?model_id={model.model_id}", 303)
