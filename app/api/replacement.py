"""Foretells what an upload or a start would replace, so that nobody stops a model unawares."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.lifecycle.deployments import Deployments
from app.lifecycle.replacement import replacement, replacement_by


def router(deployments: Deployments) -> APIRouter:
    routes = APIRouter(tags=["models"])

    @routes.get("/replacement", summary="Foresee what an upload or a start replaces")
    async def foreseen(
        model_name: Annotated[str, Query(description="As in the upload; default: the file's name.")] = "",
        filename: Annotated[str, Query(description="Name of the file to upload.")] = "model",
        keep: Annotated[str, Query(description="As in the upload or start.")] = "",
        ref: Annotated[str, Query(description="A model that is to be started, in place of an upload.")] = "",
    ) -> dict[str, Any]:
        """Tells what an upload or a start would replace once it is live, as things are now. Nothing changes.

        replaces: versions of the same name. stops: models of other names. kept: whether those keep running beside it.
        """
        if ref:
            known = replacement_by(deployments, deployments.state.find(ref), keep)
        else:
            known = replacement(deployments, model_name, filename, keep)
        return {
            "name": known.name,
            "version": known.version,
            "replaces": known.replaces,
            "stops": known.stops,
            "kept": known.kept,
        }

    return routes
