"""The routes for the registry of what runs on this host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from app.api.documents import deployment_document
from app.lifecycle.deployments import Deployments


def router(deployments: Deployments, public_url: Callable[[str], str | None]) -> APIRouter:
    """Return the routes. public_url: returns the public URL of a name, while it is shared."""
    routes = APIRouter(prefix="/registry", tags=["registry"])

    @routes.get("", summary="List registry entries")
    async def entries() -> dict[str, Any]:
        return {
            "entries": [
                deployment_document(deployment, public_url(deployment.name))
                for deployment in deployments.state.deployments()
            ]
        }

    @routes.get("/{model_id}", summary="Get a registry entry")
    async def entry(model_id: str) -> dict[str, Any]:
        deployment = deployments.state.deployment(model_id)
        return deployment_document(deployment, public_url(deployment.name))

    @routes.post("/prune-stale", summary="Remove entries without a model and stop replicas without an entry")
    async def prune_stale() -> dict[str, Any]:
        return {"pruned": await deployments.prune_stale()}

    return routes
