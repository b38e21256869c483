"""The models: upload, look, start, stop, restart, delete, read logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect

from app.api.documents import model_document
from app.api.problems import problem_response, request_id_of
from app.core.model import Model
from app.errors import BadInput
from app.lifecycle.deployments import Deployments
from app.lifecycle.logs import model_log
from app.lifecycle.receive import receive

UPLOAD_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "The model: pickle, joblib or ONNX.",
                        },
                        "model_name": {
                            "type": "string",
                            "description": "What people call it; default: the file's name.",
                        },
                        "model_description": {"type": "string"},
                        "expected_input_json": {
                            "type": "string",
                            "description": "One request that the model can answer; used to check it before traffic.",
                        },
                        "requirements": {
                            "type": "string",
                            "description": "Requirement lines; they win over what PRISM reads out of the file.",
                        },
                        "python_version": {"type": "string", "examples": ["3.11"]},
                        "target": {"type": "string", "enum": ["auto", "docker", "process"]},
                        "code_files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "Python files with classes that the pickle takes from `__main__`.",
                        },
                        "accelerate": {
                            "type": "string",
                            "enum": ["auto", "off"],
                            "description": "Serve it in ONNX where that is proven equal and faster; default: the server's.",
                        },
                        "allow_unsafe": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "Accept globals that run code when the file is loaded; the consent is recorded.",
                        },
                    },
                }
            }
        },
    }
}

Wait = Annotated[bool, Query(description="false answers 202 at once, with the Location to poll.")]


def router(deployments: Deployments, max_upload_bytes: int, closing: asyncio.Event) -> APIRouter:
    """closing: set when the server ends; live logs end with it."""
    routes = APIRouter(tags=["models"])
    ledger = deployments.ledger

    def document(model_id: str, request: Request) -> dict[str, Any]:
        model = ledger.find(model_id)
        return model_document(model, ledger.deployment(model.model_id), str(request.base_url).rstrip("/"))

    async def upload(request: Request, wait: bool, run: bool) -> Response:
        began = monotonic()
        length = request.headers.get("content-length", "")
        try:
            received = await receive(
                request.stream(),
                request.headers.get("content-type", ""),
                int(length) if length.isdigit() else None,
                ledger.folder(""),
                max_upload_bytes,
            )
        except ClientDisconnect as error:
            raise BadInput("The upload was cut off by its sender.") from error
        model = await deployments.accept(received, run=run, received_ms=(monotonic() - began) * 1000)
        location = {"Location": f"/models/{model.model_id}"}
        if not wait:
            return JSONResponse(document(model.model_id, request), 202, location)
        return await settled(model, request, 201, location)

    async def settled(model: Model, request: Request, status: int, headers: dict[str, str] | None = None) -> Response:
        """The model's document once nothing works on it any more; its problem if it failed."""
        deployment = await deployments.settled(model.model_id)
        if deployment.error is not None and "status" in deployment.error:
            problem = {**deployment.error, "model_id": model.model_id}
            return problem_response(problem, request_id_of(request), headers)
        return JSONResponse(document(model.model_id, request), status, headers)

    @routes.post(
        "/models/upload-and-run", status_code=201, summary="Upload a model and serve it", openapi_extra=UPLOAD_FORM
    )
    async def upload_and_run(request: Request, wait: Wait = True) -> Response:
        """Stores the file, reads what it needs, builds its environment, starts it and probes it with a sample."""
        return await upload(request, wait, run=True)

    @routes.post("/models", status_code=201, summary="The same as upload-and-run", openapi_extra=UPLOAD_FORM)
    async def create(request: Request, wait: Wait = True) -> Response:
        return await upload(request, wait, run=True)

    @routes.post(
        "/models/upload", status_code=201, summary="Upload and build, without starting", openapi_extra=UPLOAD_FORM
    )
    async def upload_only(request: Request, wait: Wait = True) -> Response:
        return await upload(request, wait, run=False)

    @routes.get("/models", summary="All models")
    async def all_models(request: Request) -> dict[str, Any]:
        return {"models": [document(model.model_id, request) for model in ledger.models()]}

    @routes.get("/models/{ref}", summary="One model")
    async def one_model(ref: str, request: Request) -> dict[str, Any]:
        return document(ledger.find(ref).model_id, request)

    @routes.delete("/models/{ref}", summary="Stop a model and remove all of it")
    async def delete(ref: str) -> dict[str, Any]:
        return {"removed": await deployments.delete(ledger.find(ref))}

    @routes.post("/models/{ref}/start", summary="Start a stopped model")
    async def start(ref: str, request: Request, wait: Wait = True) -> Response:
        model = ledger.find(ref)
        await deployments.start(model)
        return await begun(model, request, wait)

    @routes.post("/models/{ref}/restart", summary="Replace its replica by a new one, without a failed request")
    async def restart(ref: str, request: Request, wait: Wait = True) -> Response:
        model = ledger.find(ref)
        await deployments.restart(model)
        return await begun(model, request, wait)

    async def begun(model: Model, request: Request, wait: bool) -> Response:
        if wait:
            return await settled(model, request, 200)
        return JSONResponse(document(model.model_id, request), 202, {"Location": f"/models/{model.model_id}"})

    @routes.post("/models/{ref}/stop", summary="Stop a model; it can be started again")
    async def stop(ref: str, request: Request) -> dict[str, Any]:
        model = ledger.find(ref)
        await deployments.stop(model)
        return document(model.model_id, request)

    @routes.get("/models/{ref}/logs", summary="What its build or its replica said", response_class=PlainTextResponse)
    async def logs(
        ref: str,
        kind: Literal["runtime", "build"] = "runtime",
        tail: Annotated[int, Query(ge=0, le=100_000, description="How many of the last lines to begin with.")] = 200,
        follow: Annotated[bool, Query(description="true goes on live, as server-sent events, one a line.")] = False,
    ) -> Response:
        lines = model_log(deployments, ledger.find(ref), kind, tail, follow)
        if follow:
            return EventSourceResponse(events(until(closing, lines)))
        return PlainTextResponse("".join([f"{line}\n" async for line in lines]))

    return routes


async def events(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Each line as a server-sent event whose id is its number in this stream."""
    number = 0
    async for line in lines:
        number += 1
        yield format_sse_event(data_str=line, id=str(number))


async def until(closing: asyncio.Event, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The lines as they come, up to the moment when `closing` is set."""
    closed = asyncio.create_task(closing.wait())
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(lines, None))
            await asyncio.wait({upcoming, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                upcoming.cancel()
                return
            line = upcoming.result()
            if line is None:
                return
            yield line
    finally:
        closed.cancel()
