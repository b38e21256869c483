"""The routes for models: upload, list, start, stop, restart, delete, read logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict, Field

from app.api.documents import model_document, staged_document
from app.api.log_events import STREAM_HEADERS
from app.api.log_events import events as log_events
from app.api.uploads import INSPECT_FIELDS, INSPECT_FORM, received, upload_form
from app.core.model import REPLICAS_MAX, ModelVersion
from app.http.problems import problem_response, request_id_of
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.usage import ReplicaUsage, UsageSampler
from app.lifecycle.intake.staging import Staging
from app.lifecycle.logs.model_log import ALL_LINES, LogKind, deployment_of, model_log

Wait = Annotated[bool, Query(description="false answers 202 at once, with the Location to poll.")]


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"replicas": 3}]})

    replicas: int = Field(description=f"How many are to serve, 1 to {REPLICAS_MAX}.", strict=True)


def router(
    deployments: Deployments,
    staging: Staging,
    max_upload_bytes: int,
    closing: asyncio.Event,
    public_url: Callable[[str], str | None],
    circuits: Callable[[str], Mapping[str, str]],
    vitals: UsageSampler,
) -> APIRouter:
    """Return the routes. closing: set when the server ends; live logs end with it.

    public_url: returns the public URL of a name, while it is shared. circuits: returns the state of the circuit
    breakers of a model's replicas, by replica id.
    """
    routes = APIRouter(tags=["models"])
    ledger = deployments.ledger

    def document(model_id: str, request: Request) -> dict[str, Any]:
        model = ledger.find(model_id)
        return documented(model, request, None)

    def documented(model: ModelVersion, request: Request, uses: Mapping[str, ReplicaUsage] | None) -> dict[str, Any]:
        base_url = str(request.base_url).rstrip("/")
        deployment, open_circuits = ledger.deployment(model.model_id), circuits(model.model_id)
        return model_document(model, deployment, base_url, public_url(model.name), open_circuits, uses)

    async def upload(request: Request, wait: bool, run: bool) -> Response:
        form = await received(request, ledger, max_upload_bytes)
        model = await staging.deploy_form(form, run=run)
        location = {"Location": f"/models/{model.model_id}"}
        if not wait:
            return JSONResponse(document(model.model_id, request), 202, location)
        return await settled(model, request, 201, location)

    async def settled(
        model: ModelVersion, request: Request, status: int, headers: dict[str, str] | None = None
    ) -> Response:
        """Wait until no job works on the model, and return its document, or its problem if it failed."""
        deployment = await deployments.settled(model.model_id)
        if deployment.error is not None and "status" in deployment.error:
            problem = {**deployment.error, "model_id": model.model_id}
            return problem_response(problem, request_id_of(request), headers)
        return JSONResponse(document(model.model_id, request), status, headers)

    form_of_upload = upload_form(deployments.road.targets.known)

    @routes.post(
        "/models/upload-and-run", status_code=201, summary="Upload a model and serve it", openapi_extra=form_of_upload
    )
    async def upload_and_run(request: Request, wait: Wait = True) -> Response:
        """Stores the file, reads what it needs, builds its environment, starts it and probes it with a sample."""
        return await upload(request, wait, run=True)

    @routes.post("/models", status_code=201, summary="Upload a model and serve it", openapi_extra=form_of_upload)
    async def create(request: Request, wait: Wait = True) -> Response:
        return await upload(request, wait, run=True)

    @routes.post(
        "/models/upload", status_code=201, summary="Upload and build, without starting", openapi_extra=form_of_upload
    )
    async def upload_only(request: Request, wait: Wait = True) -> Response:
        return await upload(request, wait, run=False)

    @routes.post("/models/inspect", summary="Inspect a file without building it", openapi_extra=INSPECT_FORM)
    async def inspect(request: Request) -> dict[str, Any]:
        """Reads the file, and reports what is in it and what stands in the way of serving it.

        A later upload can send `upload_id` in place of `file`.
        """
        form = await received(request, ledger, max_upload_bytes, INSPECT_FIELDS)
        staged = await staging.add(form)
        return staged_document(staged, await staging.refusals(staged))

    @routes.get("/models", summary="List models")
    async def all_models(request: Request) -> dict[str, Any]:
        return {"models": [document(model.model_id, request) for model in ledger.models()]}

    @routes.get("/models/{ref}", summary="Get a model")
    async def one_model(ref: str, request: Request) -> dict[str, Any]:
        model = ledger.find(ref)
        return documented(model, request, await vitals.of([ledger.deployment(model.model_id)]))

    @routes.patch("/models/{ref}", summary="Set the number of replicas")
    async def change(ref: str, wanted: Change, request: Request, wait: Wait = True) -> Response:
        """Sets the number of replicas.

        New ones take traffic once they answer; superfluous ones are drained and stopped. No request fails.
        """
        model = ledger.find(ref)
        await deployments.scale(model, wanted.replicas)
        return await begun(model, request, wait)

    @routes.delete("/models/{ref}", summary="Delete a model")
    async def delete(ref: str) -> dict[str, Any]:
        return {"removed": await deployments.delete(ledger.find(ref))}

    @routes.post("/models/{ref}/start", summary="Start a stopped model")
    async def start(ref: str, request: Request, wait: Wait = True) -> Response:
        model = ledger.find(ref)
        await deployments.start(model)
        return await begun(model, request, wait)

    @routes.post("/models/{ref}/restart", summary="Restart a model without a failed request")
    async def restart(ref: str, request: Request, wait: Wait = True) -> Response:
        model = ledger.find(ref)
        await deployments.restart(model)
        return await begun(model, request, wait)

    async def begun(model: ModelVersion, request: Request, wait: bool) -> Response:
        if wait:
            return await settled(model, request, 200)
        return JSONResponse(document(model.model_id, request), 202, {"Location": f"/models/{model.model_id}"})

    @routes.post("/models/{ref}/stop", summary="Stop a model")
    async def stop(ref: str, request: Request) -> dict[str, Any]:
        model = ledger.find(ref)
        await deployments.stop(model)
        return document(model.model_id, request)

    @routes.get("/models/{ref}/logs", summary="Build or replica log", response_class=PlainTextResponse)
    async def logs(
        ref: str,
        kind: LogKind = "runtime",
        tail: Annotated[int, Query(ge=0, le=ALL_LINES, description="How many of the last lines to begin with.")] = 200,
        follow: Annotated[bool, Query(description="true goes on live, as server-sent events, one a line.")] = False,
        after: Annotated[
            str, Query(description="The id of a line's event: begin right behind it, whatever `tail`.")
        ] = "",
        replica: Annotated[
            int | None, Query(ge=1, description="The number of the one whose lines are wanted; else those of all.")
        ] = None,
        last_event_id: Annotated[str, Header(description="As `after`, sent by browsers that reconnect.")] = "",
    ) -> Response:
        model = ledger.find(ref)
        lines = model_log(deployments, model, kind, tail, follow, last_event_id or after, replica)
        if not follow:
            return PlainTextResponse("".join([f"{line.text}\n" async for line in lines]))

        def status() -> str:
            deployment = deployment_of(deployments, model.model_id)
            return deployment.status if deployment else "deleted"

        return EventSourceResponse(log_events(lines, closing, status), headers=STREAM_HEADERS)

    return routes
