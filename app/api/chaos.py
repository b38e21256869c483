"""/models/{ref}/chaos: give a running version a fault on purpose, for a bounded time."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.core.chaos import LATENCY_MS_MAX, SECONDS_MAX, chaos
from app.core.model import ModelVersion
from app.lifecycle.chaos import ChaosControl
from app.lifecycle.state import DeploymentState

Number = Annotated[float, Field(strict=True)]


class NewChaos(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"errors": 0.2, "seconds": 30}]})

    seconds: Number = Field(30.0, description=f"How long it acts, at most {SECONDS_MAX:g}.")
    errors: Number | None = Field(None, description="Share of the answers that are 500, above 0, at most 1.")
    latency_ms: Number | None = Field(
        None, description=f"How much later its answers come, in milliseconds, at most {LATENCY_MS_MAX:g}."
    )
    hang: Annotated[bool, Field(strict=True)] = Field(False, description="It answers nothing until this is over.")
    kill: Annotated[bool, Field(strict=True)] = Field(False, description="Its replicas are killed, once.")
    nonsense: Annotated[bool, Field(strict=True)] = Field(
        False, description="Numbers in its answers are null, texts are wrong."
    )


def router(control: ChaosControl, state: DeploymentState) -> APIRouter:
    routes = APIRouter(tags=["rollouts"])

    @routes.post("/models/{ref}/chaos", status_code=201, summary="Break a version on purpose")
    async def begin(ref: str, wanted: NewChaos) -> dict[str, Any]:
        """Gives a running version one fault, in the place of the one that it has. It is over by itself.

        So it can be seen what a canary, a shadow or your clients make of it.
        """
        given = wanted.model_dump()
        fault = chaos(given.pop("seconds"), **given)
        model = state.find(ref)
        await control.begin(model, fault)
        return document(model)

    @routes.get("/models/{ref}/chaos", summary="What breaks a version now")
    async def acting(ref: str) -> dict[str, Any]:
        return document(state.find(ref))

    @routes.delete("/models/{ref}/chaos", summary="End a fault before its time")
    async def end(ref: str) -> dict[str, Any]:
        model = state.find(ref)
        control.end(model.model_id)
        return document(model)

    def document(model: ModelVersion) -> dict[str, Any]:
        active = control.of(model.model_id)
        about = {"name": model.name, "version": model.version, "model_id": model.model_id}
        if active is None:
            return {**about, "active": False}
        fault = active.chaos
        return {
            **about,
            "active": True,
            "kind": fault.kind,
            "text": fault.told,
            "share": fault.share,
            "latency_ms": fault.latency_ms,
            "seconds": fault.seconds,
            "seconds_left": round(active.seconds_left, 3),
        }

    return routes
