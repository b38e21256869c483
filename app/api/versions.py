"""GET /models/{name}/versions and /models/{name}/diff: the lineage of a model, and what differs between two versions."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from app.api.documents import version_document
from app.core.version_difference import difference
from app.lifecycle.state import DeploymentState
from app.lifecycle.versions import versions_of, versions_to_compare


def router(state: DeploymentState) -> APIRouter:
    routes = APIRouter(tags=["models"])

    @routes.get("/models/{name}/versions", summary="List a model's versions")
    async def versions(name: str) -> dict[str, Any]:
        """Tells of each version, the oldest first, what it was made from, by whom, and which share of the name's requests
        it gets, from 0 to 1.
        """
        models = versions_of(name, state)
        route = state.route(models[0].name)
        return {
            "name": models[0].name,
            "versions": [
                version_document(
                    model, state.deployment(model.model_id), route.weight(model.model_id) if route is not None else 0.0
                )
                for model in models
                if state.has_deployment(model.model_id)
            ],
        }

    @routes.get("/models/{name}/diff", summary="Compare two versions")
    async def diff(
        name: str,
        before: Annotated[str, Query(alias="from", description="A version; default: the other's parent.")] = "",
        after: Annotated[str, Query(alias="to", description="A version; default: the one that answers.")] = "",
    ) -> dict[str, Any]:
        """Compares signature, packages, size, metrics and measured speed. breaks: why callers would be refused."""
        first, second = versions_to_compare(name, before, after, state)
        found: dict[str, Any] = msgspec.to_builtins(difference(first, second))
        return {"name": found.pop("name"), "from": found.pop("before"), "to": found.pop("after"), **found}

    return routes
