"""GET /settings: keys, limits, storage, and the checks of this machine."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.access.keys import Keys
from app.api.keys import NOT_SAVED
from app.errors import PrismError
from app.lifecycle.deployments import Deployments
from app.lifecycle.storage import image_storage, prune_images
from app.registry.keys import KeyEntry, KeyStore
from app.registry.unsaved import Unsaved
from app.runtime.doctor import examined, urgency
from app.settings import Settings
from app.ui.housekeeping import limits, storage
from app.ui.pages import Pages


def router(
    settings: Settings, store: KeyStore, keys: Keys, unsaved: Unsaved, deployments: Deployments, pages: Pages
) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    made: dict[str, tuple[KeyEntry, str]] = {}  # new keys by a token; a token shows its key once

    async def page(
        request: Request, shown: tuple[KeyEntry, str] | None, name: str = "", error: PrismError | None = None
    ) -> Response:
        context = {
            "settings": settings,
            "keys": keys,
            "entries": store.entries(),
            "not_saved": "" if store.saved else NOT_SAVED,
            "made": shown,
            "name": name,
            "error": error,
            "unsaved": unsaved.documents(),
            "limits": limits(settings),
            "storage": await storage(settings),
            "images": await image_storage(deployments),
            "logged_in": getattr(request.state, "session", False),
        }
        return pages.render(request, "settings.html", context, status=error.status if error else 200)

    @routes.get("/settings")
    async def settings_page(request: Request, made_key: Annotated[str, Query()] = "") -> Response:
        """Show the settings. made_key: token that shows a newly made key.

        The token works once. The redirect to it keeps a reload of the page from making a second key.
        """
        return await page(request, made.pop(made_key, None))

    @routes.get("/settings/machine")
    async def machine(request: Request) -> Response:
        """Show what the machine has and lacks. It takes seconds to find out, and the settings do not wait for it."""
        return pages.render_either(request, "machine", {"checks": sorted(await examined(settings), key=urgency)})

    @routes.post("/settings/keys")
    async def create(request: Request, name: Annotated[str, Form()] = "") -> Response:
        try:
            created = store.create(name)
        except PrismError as error:
            return await page(request, None, name, error)
        token = secrets.token_urlsafe(16)
        made.clear()  # a key that was never displayed is dropped here
        made[token] = created
        return RedirectResponse(f"/settings?made_key={token}#keys", 303)

    @routes.post("/settings/keys/{id}/revoke")
    async def revoke(id: str) -> Response:
        store.revoke(id)
        return RedirectResponse("/settings#keys", 303)

    @routes.post("/settings/prune-images")
    async def prune() -> Response:
        await prune_images(deployments)
        return RedirectResponse("/settings#storage", 303)

    return routes
