"""The routes for sharing: a link lets others call a model, and nothing else of this server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.documents import share_document
from app.errors import BadInput, Conflict
from app.lifecycle.state import DeploymentState
from app.share.share import Share


class ShareRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"models": ["iris"], "create_key": True}]}
    )

    models: list[str] = Field(
        default=[],
        description="Names, name@version or model_ids of the models to share; the link uses their names. Default: the only live model.",
    )
    create_key: bool = Field(default=False, description="Create an API key for the link; only this answer contains it.")
    open: bool = Field(default=False, description="Consent that anyone with the link can predict without a key.")


def router(share: Share, state: DeploymentState) -> APIRouter:
    routes = APIRouter(prefix="/share", tags=["share"])

    @routes.get("", summary="Sharing status")
    async def status() -> dict[str, Any]:
        """Reports what is shared and where.

        state is "off", "starting", "on", "reconnecting" or "failed"; url is null unless there is one.
        """
        return share_document(share.status)

    @routes.post("", summary="Share models through a link")
    async def start(wanted: ShareRequest | None = None) -> dict[str, Any]:
        """Opens the link, and answers once it works. More models can be added to it later."""
        wanted = wanted or ShareRequest()
        names = names_to_share(state, wanted.models)
        key = await share.start(names, create_key=wanted.create_key, open_to_all=wanted.open)
        return share_document(share.status, key)

    @routes.delete("", summary="Stop sharing")
    async def stop() -> dict[str, Any]:
        await share.stop()
        return share_document(share.status)

    @routes.delete("/{ref}", summary="Stop sharing a model")
    async def withdraw(ref: str) -> dict[str, Any]:
        await share.stop(ref if ref in share.status.models else state.find(ref).name)
        return share_document(share.status)

    return routes


def names_to_share(state: DeploymentState, refs: Sequence[str]) -> list[str]:
    """Return the names of the live models to share; without refs, of the only live one.

    Raises NotFound, Conflict or BadInput.
    """
    table = state.route_table()
    live = sorted({endpoint.name for endpoint in table.live.values()})
    if not refs and len(live) > 1:
        raise BadInput(f"Several models are live: {', '.join(live)}.", hint="Name the models to share.", live=live)
    if not refs and not live:
        raise Conflict("No model is live, so there is nothing to share.", hint="Deploy one: prism push model.joblib")
    names = [state.find(ref).name for ref in refs] or live
    for name in names:
        if name not in table.live:
            raise Conflict(f"`{name}` is not live.", hint=f"Start it first: prism models start {name}")
    return list(dict.fromkeys(names))
