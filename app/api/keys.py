"""The routes for API keys that are made and revoked while the server runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.registry.keys import KeyEntry, KeyStore

NOT_SAVED = "Revoked, but not yet on disk: free some space. The write is retried until it succeeds."


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Who will use it; 1 to 100 characters.", examples=["the billing service"])


def router(store: KeyStore) -> APIRouter:
    routes = APIRouter(prefix="/keys", tags=["keys"])

    @routes.get("", summary="List API keys")
    async def entries() -> dict[str, Any]:
        """Lists the keys without the keys themselves: `hint` is the end of each.

        The keys of the settings are not listed.
        """
        return {"keys": [key_document(entry) for entry in store.entries()]}

    @routes.post("", status_code=201, summary="Create an API key")
    async def create(wanted: NewKey) -> Response:
        """Creates a key that may predict and look at models, and change nothing.

        `key` is shown only this once, and stored nowhere.
        """
        entry, key = store.create(wanted.name)
        return JSONResponse({**key_document(entry), "key": key}, 201, {"Cache-Control": "no-store"})

    @routes.delete("/{id}", summary="Revoke an API key")
    async def revoke(id: str) -> dict[str, Any]:
        """Revokes a key. Its next request is refused, even on an open connection.

        `saved` is present, and false, where the disk could not be written to. The key is refused all the same. Only a
        server that is restarted before `GET /health/monitor` shows nothing unsaved would accept it again.
        """
        revoked = store.revoke(id).id
        return {"revoked": revoked} if store.saved else {"revoked": revoked, "saved": False, "hint": NOT_SAVED}

    return routes


def key_document(entry: KeyEntry) -> dict[str, str]:
    return {"id": entry.id, "name": entry.name, "created_at": entry.created_at, "hint": entry.hint}
