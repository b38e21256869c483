"""What became of each entry of the models folder."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.lifecycle.models_folder.watcher import ModelsFolder


def router(models_folder: ModelsFolder) -> APIRouter:
    routes = APIRouter(tags=["models"])

    @routes.get("/models-folder", summary="List entries of the models folder")
    async def state() -> dict[str, Any]:
        """Whether it is watched, what serves of it, and what is wrong with what does not."""
        return models_folder.document()

    return routes
