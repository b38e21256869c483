"""The Open Inference Protocol V2's extensions for the repository index, configuration and statistics of models, over REST.

Loading and unloading models is for admins.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from msgspec import Struct

from app.core.foreign_json import ForeignJsonError, read_json
from app.errors import BadInput
from app.http.problems import error_form, problem_response, request_id_of
from app.protocols.handler import InferenceHandler, caller_of
from app.protocols.v2.service import V2Admin, V2Service

TAGS = ["Open Inference Protocol V2"]


class Asked(Struct):
    """The body of a repository request; its other members are ignored."""

    ready: bool = False
    parameters: dict[str, Any] = {}


def router(asking: InferenceHandler, service: V2Service) -> APIRouter:
    """Return the routes for every caller who may predict."""
    routes = APIRouter(tags=[*TAGS])

    @routes.get("/v2/models/stats", summary="Statistics of all models")
    async def all_stats(request: Request) -> dict[str, Any]:
        return service.statistics(caller_of(request))

    @routes.get("/v2/models/{name}/stats", summary="Model statistics")
    @routes.get("/v2/models/{name}/versions/{version}/stats", summary="Version statistics")
    async def model_stats(request: Request, name: str, version: str = "") -> dict[str, Any]:
        return service.statistics(caller_of(request), name, version)

    @routes.get("/v2/models/{name}/config", summary="Model configuration")
    @routes.get("/v2/models/{name}/versions/{version}/config", summary="Version configuration")
    async def config(request: Request, name: str, version: str = "") -> dict[str, Any]:
        return service.config(caller_of(request), name, version)

    @routes.post("/v2/repository/index", summary="List models of the repository")
    async def index(request: Request) -> list[dict[str, str]]:
        """Lists the models. `{"ready": true}` leaves out those that take no traffic."""
        service.identify(caller_of(request))
        return service.index(only_ready=read(await asking.body(request)).ready)

    return routes


def admin_router(asking: InferenceHandler, admin: V2Admin) -> APIRouter:
    routes = APIRouter(tags=[*TAGS])

    @routes.post("/v2/repository/models/{name}/load", summary="Start a model")
    async def load(request: Request, name: str) -> Response:
        """Starts the version that served last, or else the newest; answers once it is live."""
        problem = await admin.load(name, read(await asking.body(request)).parameters)
        if problem is not None:
            form = error_form(request.scope, request.url.path)
            return problem_response(problem, request_id_of(request), form=form)
        return Response(b"{}", media_type="application/json")

    @routes.post("/v2/repository/models/{name}/unload", summary="Stop a model")
    async def unload(request: Request, name: str) -> Response:
        """Stops every version of the model; it can be loaded again."""
        read(await asking.body(request))
        await admin.unload(name)
        return Response(b"{}", media_type="application/json")

    return routes


def read(body: bytes) -> Asked:
    """Parse the body; an empty one stands for the defaults. Raises BadInput."""
    try:
        return read_json(body, Asked) if body.strip() else Asked()
    except ForeignJsonError as error:
        raise BadInput(f"The body does not fit this route: {error}.", hint="Send `{}`, or nothing.") from None
