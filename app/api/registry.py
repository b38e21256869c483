"""The registry of what runs on this host."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.api.documents import deployment_document
from app.lifecycle.deployments import Deployments


def router(deployments: Deployments) -> APIRouter:
    routes = APIRouter(prefix="/registry", tags=["registry"])

    @routes.get("", summary="Every entry")
    async def entries() -> dict[str, Any]:
        return {"entries": [deployment_document(one) for one in deployments.ledger.deployments()]}

    @routes.get("/{model_id}", summary="One entry")
    async def entry(model_id: str) -> dict[str, Any]:
        return deployment_document(deployments.ledger.deployment(model_id))

    @routes.post("/prune-stale", summary="Drop entries without a model, stop replicas without an entry")
    async def prune_stale() -> dict[str, Any]:
        return {"pruned": await deployments.prune_stale()}

    return routes
