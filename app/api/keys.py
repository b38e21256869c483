"""The API keys that are made and revoked while the server runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.registry.keys import KeyEntry, KeyStore


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Who will use it; 1 to 100 characters.", examples=["the billing service"])


def router(store: KeyStore) -> APIRouter:
    routes = APIRouter(prefix="/keys", tags=["keys"])

    @routes.get("", summary="The keys that were made here")
    async def entries() -> dict[str, Any]:
        """Without the keys themselves: `hint` is the end of each. Those of the settings are not among them."""
        return {"keys": [key_document(entry) for entry in store.entries()]}

    @routes.post("", status_code=201, summary="Make a key")
    async def create(wanted: NewKey) -> Response:
        """`key` is told this once, and kept nowhere. It may predict, and look at models; it may change nothing."""
        entry, key = store.create(wanted.name)
        return JSONResponse({**key_document(entry), "key": key}, 201, {"Cache-Control": "no-store"})

    @routes.delete("/{id}", summary="Revoke a key")
    async def revoke(id: str) -> dict[str, Any]:
        """Its next request is refused, also on a connection that is open."""
        return {"revoked": store.revoke(id).id}

    return routes


def key_document(entry: KeyEntry) -> dict[str, str]:
    return {"id": entry.id, "name": entry.name, "created_at": entry.created_at, "hint": entry.hint}
