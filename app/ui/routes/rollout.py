"""GET /model-rollout: the canary of a model. POST /rollouts-ui: begin one. POST /rollouts-ui/{id}/…: promote, roll back, pause and resume it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from app.core.rollout.policy import canary_policy
from app.core.rollout.records import CanaryPolicy, Rollout, RolloutKind
from app.errors import BadInput, CatalogUnavailable
from app.lifecycle.rollouts.canaries import RECENT, Canaries
from app.lifecycle.rollouts.checks import CanaryRequest
from app.lifecycle.state import DeploymentState
from app.observe.history import History
from app.ui.pages import Pages
from app.ui.rollout_view import candidates_of, rollout_view
from app.ui.routes.head import head_context

DEFAULTS = CanaryPolicy()
Verb = Literal["promote", "rollback", "pause", "resume"]


def router(state: DeploymentState, canaries: Canaries, history: History, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    commands: dict[Verb, Callable[[str], Awaitable[Rollout]]] = {
        "promote": canaries.promote,
        "rollback": canaries.roll_back,
        "pause": canaries.pause,
        "resume": canaries.resume,
    }

    @routes.get("/model-rollout")
    async def rollout_page(request: Request, model_id: Annotated[str, Query()]) -> HTMLResponse:
        model = state.find(model_id)
        rollout, is_away = await newest(model.name)
        view = None
        if rollout is not None:
            events = () if is_away else await canaries.events(rollout.id)
            view = rollout_view(rollout, canaries.seen(rollout), events, history)
        begins = rollout is None or not rollout.is_active
        context = {
            "model": model,
            "tab": "rollout",
            "view": view,
            "is_away": is_away,
            "candidates": candidates_of(model, state) if begins else [],
            "begins": begins,
            "percentage": DEFAULTS.steps[0],
            **head_context(request, model, state),
        }
        return pages.render_either(request, "rollout", context)

    async def newest(name: str) -> tuple[Rollout | None, bool]:
        """Return the active canary of a name, otherwise its last one, and whether the database is away.

        Raises CatalogUnavailable if it is and there is no active one.
        """
        active = state.rollout(name)
        try:
            found = [each for each in await canaries.list(name, RECENT) if each.kind is RolloutKind.CANARY]
        except CatalogUnavailable:
            if active is None:
                raise
            return await canaries.get(active.id), True
        return next((each for each in found if each.is_active), found[0] if found else None), False

    @routes.post("/rollouts-ui")
    async def begin(
        model_id: Annotated[str, Form()], candidate: Annotated[str, Form()], percentage: Annotated[str, Form()]
    ) -> RedirectResponse:
        model = state.find(model_id)
        policy = canary_policy(_number(percentage), DEFAULTS.threshold, DEFAULTS.bake_seconds)
        await canaries.begin(CanaryRequest(model.name, candidate, policy))
        return back_to(model.model_id)

    @routes.post("/rollouts-ui/{rollout_id}/{verb}")
    async def act(rollout_id: str, verb: Verb) -> RedirectResponse:
        return back_to((await commands[verb](rollout_id)).stable_id)

    def back_to(model_id: str) -> RedirectResponse:
        return RedirectResponse(f"/model-rollout?{urlencode({'model_id': model_id})}", 303)

    return routes


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadInput(f"A canary's share must be a number; it was {text[:50]!r}.", hint="For example: 5.") from error
