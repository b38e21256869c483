"""The routes for what models' images take on the engine, and for removing what nothing needs."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter

from app.lifecycle.deployments import Deployments
from app.lifecycle.storage import image_storage, prune_images


def router(deployments: Deployments) -> APIRouter:
    routes = APIRouter(prefix="/storage", tags=["server"])

    @routes.get("", summary="List images by model")
    async def stored() -> dict[str, Any]:
        """Tells which images each model has and what they take, without the environments, which models share.

        leftovers: images of this server that nothing needs, each with the reason; `POST /storage/prune` removes these
        and nothing else.
        """
        return dict(msgspec.to_builtins(await image_storage(deployments)))

    @routes.post("/prune", summary="Remove images that nothing needs")
    async def prune() -> dict[str, Any]:
        """Removes the leftovers; one that a container uses stays."""
        removed = await prune_images(deployments)
        return {"removed": msgspec.to_builtins(removed), "size_bytes": sum(each.size_bytes for each in removed)}

    return routes
