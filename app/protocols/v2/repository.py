"""The Open Inference Protocol V2's extensions for the repository index, configuration and statistics of models.

Loading and unloading models is for admins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from msgspec import Struct

from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import ModelVersion
from app.core.route_table import is_serving
from app.dispatch.limits import QueueSettings
from app.dispatch.v2 import ref_of
from app.errors import BadInput
from app.http.problems import error_form, problem_response, request_id_of
from app.lifecycle.deployments import Deployments
from app.lifecycle.state import DeploymentState
from app.observe.tally import ModelCounters
from app.protocols.handler import InferenceHandler
from app.protocols.v2.documents import config_document, index_entry, stats_document

TAGS = ["Open Inference Protocol V2"]


class Asked(Struct):
    """The body of a repository request; its other members are ignored."""

    ready: bool = False
    parameters: dict[str, Any] = {}


def router(
    asking: InferenceHandler, ledger: DeploymentState, tallies: Mapping[str, ModelCounters], flow: QueueSettings
) -> APIRouter:
    """Return the routes for every caller who may predict."""
    routes = APIRouter(tags=[*TAGS])

    @routes.get("/v2/models/stats", summary="Statistics of all models")
    async def all_stats(request: Request) -> dict[str, Any]:
        asking.caller(request)
        return stats(ledger.models(), tallies)

    @routes.get("/v2/models/{name}/stats", summary="Model statistics")
    @routes.get("/v2/models/{name}/versions/{version}/stats", summary="Version statistics")
    async def model_stats(request: Request, name: str, version: str = "") -> dict[str, Any]:
        asking.admit(request, ref_of(name, version))
        return stats(asked_for(ledger, name, version), tallies)

    @routes.get("/v2/models/{name}/config", summary="Model configuration")
    @routes.get("/v2/models/{name}/versions/{version}/config", summary="Version configuration")
    async def config(request: Request, name: str, version: str = "") -> dict[str, Any]:
        asking.admit(request, ref_of(name, version))
        model = ledger.find(ref_of(name, version))
        return config_document(model, ledger.deployment(model.model_id), flow)

    @routes.post("/v2/repository/index", summary="List models of the repository")
    async def index(request: Request) -> list[dict[str, str]]:
        """Lists the models. `{"ready": true}` leaves out those that take no traffic."""
        asking.caller(request)
        asked = read(await asking.body(request))
        return [index_entry(one) for one in ledger.deployments() if is_serving(one) or not asked.ready]

    return routes


def admin_router(asking: InferenceHandler, deployments: Deployments) -> APIRouter:
    routes = APIRouter(tags=[*TAGS])
    ledger = deployments.ledger

    @routes.post("/v2/repository/models/{name}/load", summary="Start a model")
    async def load(request: Request, name: str) -> Response:
        """Starts the version that served last, or else the newest; answers once it is live."""
        parameters = read(await asking.body(request)).parameters
        if any(name == "config" or name.startswith("file:") for name in parameters):
            raise BadInput("A model is loaded as it was uploaded.", hint="Upload it anew with POST /models.")
        model = ledger.find(name)
        await deployments.start(model)
        deployment = await deployments.settled(model.model_id)
        if deployment.error is not None and "status" in deployment.error:
            form = error_form(request.scope, request.url.path)
            return problem_response(deployment.error, request_id_of(request), form=form)
        return Response(b"{}", media_type="application/json")

    @routes.post("/v2/repository/models/{name}/unload", summary="Stop a model")
    async def unload(request: Request, name: str) -> Response:
        """Stops every version of the model; it can be loaded again."""
        read(await asking.body(request))
        for model in versions_of(ledger, name):
            await deployments.stop(model)
        return Response(b"{}", media_type="application/json")

    return routes


def stats(models: Iterable[ModelVersion], tallies: Mapping[str, ModelCounters]) -> dict[str, Any]:
    return {"model_stats": [stats_document(one, tallies.get(one.model_id, ModelCounters())) for one in models]}


def asked_for(ledger: DeploymentState, name: str, version: str) -> list[ModelVersion]:
    """Return all versions of a name, or the one that `version` or the reference `name` gives. Raises NotFound."""
    model = ledger.find(ref_of(name, version))
    if name != model.name or version:
        return [model]
    return [*ledger.versions(name)]


def versions_of(ledger: DeploymentState, name: str) -> list[ModelVersion]:
    """Return all versions of a name, or the one version if `name` is `name@version` or a model_id. Raises NotFound."""
    model = ledger.find(name)
    return [*ledger.versions(name)] or [model]


def read(body: bytes) -> Asked:
    """Parse the body; an empty one stands for the defaults. Raises BadInput."""
    try:
        return read_json(body, Asked) if body.strip() else Asked()
    except ForeignJsonError as error:
        raise BadInput(f"The body is not what this route takes: {error}.", hint="Send `{}`, or nothing.") from None
