"""The routes for models: upload, list, start, stop, restart, delete, read logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict, Field

from app.api.documents import model_document, staged_document
from app.api.log_events import STREAM_HEADERS, shown_text
from app.api.log_events import events as log_events
from app.api.model_schema import model_openapi
from app.api.uploads import INSPECT_FIELDS, INSPECT_FORM, received, upload_form
from app.core.model import REPLICAS_MAX, ModelVersion
from app.core.route_table import superseded
from app.http.problems import problem_response, request_id_of
from app.lifecycle.deployments import Deployments
from app.lifecycle.dismissal import dismiss
from app.lifecycle.health.usage import ReplicaUsage, UsageSampler
from app.lifecycle.intake.staging import Staging
from app.lifecycle.logs.model_log import ALL_LINES, LogKind, deployment_of, model_log
from app.lifecycle.replacement import stopped_for

Wait = Annotated[bool, Query(description="false returns 202 at once, with the Location to poll.")]


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"replicas": 3}]})

    replicas: int = Field(description=f"Number of replicas, 1 to {REPLICAS_MAX}.", strict=True)


class ModelRoutes:
    """The routes, a method each: it decodes the request, calls the lifecycle, and encodes the answer."""

    def __init__(
        self,
        *,
        deployments: Deployments,
        staging: Staging,
        vitals: UsageSampler,
        max_upload_bytes: int,
        closing: asyncio.Event,
        public_url: Callable[[str], str | None],
        circuits: Callable[[str], Mapping[str, str]],
    ) -> None:
        """closing: set when the server ends; live logs end with it.

        public_url: returns the public URL of a name, while it is shared. circuits: returns the state of the circuit
        breakers of a model's replicas, by replica id.
        """
        self._deployments = deployments
        self._state = deployments.state
        self._staging = staging
        self._vitals = vitals
        self._max_upload_bytes = max_upload_bytes
        self._closing = closing
        self._public_url = public_url
        self._circuits = circuits

    def router(self) -> APIRouter:
        """Return the table of the routes."""
        routes = APIRouter(tags=["models"])
        form = upload_form(self._deployments.pipeline.targets.known)
        create = partial(routes.post, status_code=201, openapi_extra=form)
        create("/models/upload-and-run", summary="Upload a model and serve it")(self.upload_and_run)
        create("/models", summary="Upload a model and serve it")(self.create)
        create("/models/upload", summary="Upload and build, without starting")(self.upload_only)
        inspect = partial(routes.post, openapi_extra=INSPECT_FORM)
        inspect("/models/inspect", summary="Inspect a file without building it")(self.inspect)
        routes.get("/models", summary="List models")(self.all_models)
        routes.get("/models/{ref}", summary="Get a model")(self.one_model)
        routes.get("/models/{ref}/openapi.json", summary="Schema of a model's predictions")(self.schema)
        routes.patch("/models/{ref}", summary="Set the number of replicas")(self.change)
        routes.delete("/models/{ref}", summary="Delete a model")(self.delete)
        routes.post("/models/{ref}/start", summary="Start a stopped model")(self.start)
        routes.post("/models/{ref}/restart", summary="Restart a model without a failed request")(self.restart)
        routes.post("/models/{ref}/stop", summary="Stop a model")(self.stop)
        routes.post("/models/{ref}/dismiss", summary="Dismiss a failure")(self.dismiss)
        logs = partial(routes.get, response_class=PlainTextResponse)
        logs("/models/{ref}/logs", summary="Build or replica log")(self.logs)
        return routes

    async def upload_and_run(self, request: Request, wait: Wait = True) -> Response:
        """Stores the file, reads what it needs, builds its environment, starts it and probes it with a sample."""
        return await self._deploy(request, wait, run=True)

    async def create(self, request: Request, wait: Wait = True) -> Response:
        return await self._deploy(request, wait, run=True)

    async def upload_only(self, request: Request, wait: Wait = True) -> Response:
        return await self._deploy(request, wait, run=False)

    async def inspect(self, request: Request) -> dict[str, Any]:
        """Reads the file, and reports what is in it and what stands in the way of serving it.

        A later upload can send `upload_id` in place of `file`.
        """
        form = await received(request, self._state, self._max_upload_bytes, INSPECT_FIELDS)
        staged = await self._staging.add(form)
        return staged_document(staged, await self._staging.refusals(staged))

    async def all_models(self, request: Request) -> dict[str, Any]:
        return {"models": [self._document(model.model_id, request) for model in self._state.models()]}

    async def one_model(self, ref: str, request: Request) -> dict[str, Any]:
        model = self._state.find(ref)
        uses = await self._vitals.of([self._state.deployment(model.model_id)])
        return self._document(model.model_id, request, uses)

    async def schema(self, ref: str, request: Request) -> dict[str, Any]:
        """Returns an OpenAPI description of the model's predict route, written from its signature."""
        return dict(to_builtins(model_openapi(self._state.find(ref), str(request.base_url).rstrip("/"))))

    async def change(self, ref: str, wanted: Change, request: Request, wait: Wait = True) -> Response:
        """Sets the number of replicas.

        New ones take traffic once they answer; superfluous ones are drained and stopped. No request fails.
        """
        model = self._state.find(ref)
        await self._deployments.scale(model, wanted.replicas)
        return await self._begun(model, request, wait)

    async def delete(self, ref: str) -> dict[str, Any]:
        return {"removed": await self._deployments.delete(self._state.find(ref))}

    async def start(
        self,
        ref: str,
        request: Request,
        wait: Wait = True,
        keep: Annotated[
            bool | None,
            Query(description="As in an upload: true keeps models of other names running; default: as the model says."),
        ] = None,
    ) -> Response:
        model = self._state.find(ref)
        await self._deployments.start(model, keep)
        return await self._begun(model, request, wait)

    async def restart(self, ref: str, request: Request, wait: Wait = True) -> Response:
        model = self._state.find(ref)
        await self._deployments.restart(model)
        return await self._begun(model, request, wait)

    async def stop(self, ref: str, request: Request) -> dict[str, Any]:
        model = self._state.find(ref)
        await self._deployments.stop(model)
        return self._document(model.model_id, request)

    async def dismiss(self, ref: str, request: Request) -> dict[str, Any]:
        """Stops reporting a failed version, or the error of a live one, as something that needs attention."""
        model = self._state.find(ref)
        await dismiss(model, self._deployments)
        return self._document(model.model_id, request)

    async def logs(
        self,
        ref: str,
        kind: LogKind = "runtime",
        tail: Annotated[int, Query(ge=0, le=ALL_LINES, description="Number of last lines to start with.")] = 200,
        follow: Annotated[
            bool, Query(description="true continues with new lines, as server-sent events, one for each line.")
        ] = False,
        after: Annotated[
            str, Query(description="Event id of a line: start right after that line and ignore `tail`.")
        ] = "",
        replica: Annotated[
            int | None, Query(ge=1, description="Number of the replica whose log is returned; default: all replicas.")
        ] = None,
        timestamps: Annotated[
            bool,
            Query(
                description="true puts the time, in UTC, before each line of a replica; a build's lines have theirs."
            ),
        ] = False,
        last_event_id: Annotated[
            str, Header(description="Same as `after`; browsers send it when they reconnect.")
        ] = "",
    ) -> Response:
        model = self._state.find(ref)
        lines = model_log(self._deployments, model, kind, tail, follow, last_event_id or after, replica)
        if not follow:
            return PlainTextResponse("".join([f"{shown_text(line, timestamps)}\n" async for line in lines]))

        def status() -> str:
            deployment = deployment_of(self._deployments, model.model_id)
            return deployment.status if deployment else "deleted"

        return EventSourceResponse(
            log_events(lines, self._closing, status, timestamps=timestamps), headers=STREAM_HEADERS
        )

    async def _deploy(self, request: Request, wait: bool, *, run: bool) -> Response:
        form = await received(request, self._state, self._max_upload_bytes)
        model = await self._staging.deploy_form(form, run=run)
        return await self._begun(model, request, wait, created=True)

    async def _begun(self, model: ModelVersion, request: Request, wait: bool, *, created: bool = False) -> Response:
        """Return the model's document, after `wait` once no job works on it; then its problem if it failed."""
        location = {"Location": f"/models/{model.model_id}"}
        if not wait:
            return JSONResponse(self._document(model.model_id, request), 202, location)
        deployment = await self._deployments.settled(model.model_id)
        headers = location if created else None
        if deployment.error is not None and "status" in deployment.error:
            problem = {**deployment.error, "model_id": model.model_id}
            return problem_response(problem, request_id_of(request), headers)
        return JSONResponse(self._document(model.model_id, request), 201 if created else 200, headers)

    def _document(
        self, model_id: str, request: Request, uses: Mapping[str, ReplicaUsage] | None = None
    ) -> dict[str, Any]:
        """Return the document of a model as it is now. Raises NotFound if it was deleted meanwhile."""
        model, deployment = self._state.find(model_id), self._state.deployment(model_id)
        base_url = str(request.base_url).rstrip("/")
        document = model_document(
            model, deployment, base_url, self._public_url(model.name), self._circuits(model_id), uses
        )
        ids = [version.model_id for version in self._state.versions(model.name)]
        history = superseded(self._state.deployment(id) for id in ids if self._state.has_deployment(id))
        return {**document, "stops": stopped_for(model, self._deployments), "superseded": model_id in history}
