"""Reports which artifacts are being read, and which wait."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.lifecycle.intake.readers import Place, Readers


def router(readers: Readers) -> APIRouter:
    routes = APIRouter(tags=["models"])

    @routes.get("/inspections", summary="List artifacts being inspected")
    async def inspections() -> dict[str, Any]:
        """Lists the artifacts in the order of the queue; place 0 is being read.

        `request_id` is the upload's, as sent in `X-Request-ID`.
        """
        return {"inspections": [_document(place) for place in readers.places]}

    return routes


def _document(place: Place) -> dict[str, Any]:
    return {
        "request_id": place.request_id or None,
        "filename": place.filename,
        "place": place.place,
        "message": place.message,
    }
