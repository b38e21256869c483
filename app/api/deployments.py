"""The routes for rollouts: begin a canary, look at it, promote it, roll it back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.log_events import STREAM_HEADERS
from app.api.rollout_documents import rollout_document
from app.api.rollout_events import rollout_events
from app.api.shadow_documents import shadow_document
from app.core.rollout.policy import canary_policy
from app.core.rollout.records import CanaryPolicy, Rollout, RolloutKind
from app.lifecycle.rollouts.canaries import Canaries
from app.lifecycle.rollouts.checks import CanaryRequest

DEFAULTS = CanaryPolicy()
STEPS_MAX = 20
LISTED_MAX = 500
EXAMPLE: JsonDict = {"name": "fraud", "candidate_version": "2.0.0", "initial_percentage": 5, "steps": [5, 25, 50, 100]}

Number = Annotated[float, Field(strict=True)]


class NewCanary(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: str = Field(description="Name of the model.")
    candidate_version: str = Field(
        description="Version that may take over: its number, `name@version` or its model_id."
    )
    initial_percentage: Number | None = Field(
        None, description="Share of the requests that the candidate gets at first; default: the first step, or 5."
    )
    steps: list[Number] | None = Field(
        None,
        max_length=STEPS_MAX,
        description="Rising shares in percent that it goes through by itself, for example 5, 25, 50, 100. Default: it "
        "keeps the initial share until it is promoted.",
    )
    bake_seconds: Number = Field(DEFAULTS.bake_seconds, description="How long each step lasts at least.")
    auto_rollback_threshold: Number = Field(
        DEFAULTS.threshold, description="Share of bad answers, 0 to 1, above which it is rolled back."
    )
    overdue_ms: Number | None = Field(
        None, description="An answer that takes longer is bad; default: derived from the stable version's latencies."
    )
    rescue: bool = Field(
        True,
        description="Whether the stable version answers what the candidate could not. Not for models with side effects.",
    )
    warm_seconds: Number = Field(
        DEFAULTS.warm_seconds, description="How long the stable version stays warm after a promotion."
    )
    allow_signature_change: bool = Field(
        False, description="Begin although callers of the stable version would break on the candidate."
    )

    def request(self) -> CanaryRequest:
        """Return what is asked for. Raises BadInput for a value that makes no sense."""
        initial = self.initial_percentage
        if initial is None:
            initial = self.steps[0] if self.steps else DEFAULTS.steps[0]
        policy = canary_policy(
            initial,
            self.auto_rollback_threshold,
            self.bake_seconds,
            self.steps,
            rescue=self.rescue,
            overdue_ms=self.overdue_ms,
            warm_seconds=self.warm_seconds,
        )
        return CanaryRequest(self.name, self.candidate_version, policy, self.allow_signature_change)


class DeploymentRoutes:
    """The routes, a method each: it decodes the request, calls the lifecycle, and encodes the answer.

    closing: set when the server ends; streams of events end with it.
    """

    def __init__(self, canaries: Canaries, closing: asyncio.Event) -> None:
        self._canaries = canaries
        self._closing = closing

    def router(self) -> APIRouter:
        """Return the table of the routes."""
        routes = APIRouter(prefix="/deployments", tags=["rollouts"])
        routes.post("/canary", status_code=201, summary="Begin a canary")(self.begin)
        command = "/canary/{rollout_id}"
        routes.post(f"{command}/promote", summary="Promote a canary")(self.promote)
        routes.post(f"{command}/rollback", summary="Roll a canary back")(self.roll_back)
        routes.post(f"{command}/pause", summary="Pause a canary")(self.pause)
        routes.post(f"{command}/resume", summary="Resume a canary")(self.resume)
        routes.get("", summary="List rollouts")(self.all_rollouts)
        routes.get("/{rollout_id}", summary="Get a rollout")(self.one_rollout)
        routes.get("/{rollout_id}/events", summary="Events of a rollout")(self.events)
        return routes

    async def begin(self, wanted: NewCanary) -> Response:
        """Gives the candidate a share of the requests for a name, and judges its answers.

        It is started and probed first, unless it serves already. What it cannot answer, the stable version does. It is
        rolled back at once when its answers are bad, and goes on when they are shown to be good.
        """
        rollout = await self._canaries.begin(wanted.request())
        return JSONResponse(self._document(rollout), 201, {"Location": f"/deployments/{rollout.id}"})

    async def promote(self, rollout_id: str) -> dict[str, Any]:
        """Gives the candidate all requests. The stable version stays warm, and can take over again at once."""
        return await self._after(self._canaries.promote, rollout_id)

    async def roll_back(self, rollout_id: str) -> dict[str, Any]:
        """Gives the stable version all requests again, at once, and stops the candidate."""
        return await self._after(self._canaries.roll_back, rollout_id)

    async def pause(self, rollout_id: str) -> dict[str, Any]:
        """Keeps a canary at its step. It is still judged."""
        return await self._after(self._canaries.pause, rollout_id)

    async def resume(self, rollout_id: str) -> dict[str, Any]:
        return await self._after(self._canaries.resume, rollout_id)

    async def all_rollouts(
        self,
        name: Annotated[str, Query(description="Only rollouts of this model.")] = "",
        limit: Annotated[int, Query(ge=1, le=LISTED_MAX, description="Most rollouts, the newest first.")] = 100,
    ) -> dict[str, Any]:
        return {"deployments": [self._document(rollout) for rollout in await self._canaries.list(name, limit)]}

    async def one_rollout(self, rollout_id: str) -> dict[str, Any]:
        return self._document(await self._canaries.get(rollout_id))

    async def events(
        self,
        rollout_id: str,
        follow: Annotated[
            bool, Query(description="true goes on with what happens, as server-sent events; false returns a list.")
        ] = True,
        after: Annotated[int, Query(ge=0, description="Only events with a greater number.")] = 0,
        last_event_id: Annotated[
            str, Header(description="Same as `after`; browsers send it when they reconnect.")
        ] = "",
    ) -> Response:
        """Returns what happened to a rollout, in order; while it is active, its evidence every second."""
        await self._canaries.get(rollout_id)
        after = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else after
        if not follow:
            return JSONResponse({"events": to_builtins(await self._canaries.events(rollout_id, after))})
        stream = rollout_events(self._canaries, rollout_id, after, self._closing, self._document)
        return EventSourceResponse(stream, headers=STREAM_HEADERS)

    async def _after(self, command: Callable[[str], Awaitable[Rollout]], rollout_id: str) -> dict[str, Any]:
        return self._document(await command(rollout_id))

    def _document(self, rollout: Rollout) -> dict[str, Any]:
        if rollout.kind is RolloutKind.SHADOW:
            return shadow_document(rollout, self._canaries.standing.versions(rollout))
        return rollout_document(rollout, self._canaries.seen(rollout))
