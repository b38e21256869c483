"""Reports the state of each entry of the models folder."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.lifecycle.models_folder.watcher import ModelsFolder


def router(models_folder: ModelsFolder) -> APIRouter:
    routes = APIRouter(tags=["models"])

    @routes.get("/models-folder", summary="List entries of the models folder")
    async def state() -> dict[str, Any]:
        """Tells whether the folder is watched, which models it serves, and what is wrong with the other entries."""
        return models_folder.document()

    return routes
