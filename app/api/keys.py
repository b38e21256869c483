"""The API keys that are made and revoked while the server runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.registry.keys import KeyEntry, KeyStore

NOT_SAVED = "Revoked; not yet on disk: free some space. It is written again until it is."


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Who will use it; 1 to 100 characters.", examples=["the billing service"])


def router(store: KeyStore) -> APIRouter:
    routes = APIRouter(prefix="/keys", tags=["keys"])

    @routes.get("", summary="List API keys")
    async def entries() -> dict[str, Any]:
        """Without the keys themselves: `hint` is the end of each. Those of the settings are not among them."""
        return {"keys": [key_document(entry) for entry in store.entries()]}

    @routes.post("", status_code=201, summary="Create an API key")
    async def create(wanted: NewKey) -> Response:
        """`key` is told this once, and kept nowhere. It may predict, and look at models; it may change nothing."""
        entry, key = store.create(wanted.name)
        return JSONResponse({**key_document(entry), "key": key}, 201, {"Cache-Control": "no-store"})

    @routes.delete("/{id}", summary="Revoke an API key")
    async def revoke(id: str) -> dict[str, Any]:
        """Its next request is refused, also on a connection that is open.

        `saved` is there and false where the disk could not be written to. The key opens nothing all the same; only a server that
        starts again before `GET /health/monitor` shows nothing unsaved would know it again.
        """
        revoked = store.revoke(id).id
        return {"revoked": revoked} if store.saved else {"revoked": revoked, "saved": False, "hint": NOT_SAVED}

    return routes


def key_document(entry: KeyEntry) -> dict[str, str]:
    return {"id": entry.id, "name": entry.name, "created_at": entry.created_at, "hint": entry.hint}
