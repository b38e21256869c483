"""The methods of the Open Inference Protocol's GRPCInferenceService, each equivalent to its REST route.

A caller's key comes in the metadata `authorization` or `x-api-key`. What REST sends in the headers of a prediction is
sent as trailing metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from app.access.admission import Admission
from app.access.throttle import FailedKeyThrottle
from app.core.model import ModelVersion
from app.core.route_table import is_serving
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.dispatch.response import answer_headers, problem_document
from app.dispatch.v2 import ref_of
from app.errors import BadInput, Forbidden, PrismError, Unauthorized
from app.lifecycle.deployments import Deployments
from app.protocols.v2.documents import config_document, index_entry, model_document, server_document
from app.protocols.v2.grpc import documents, tensors
from app.protocols.v2.grpc import inference_pb2 as messages
from app.protocols.v2.grpc.refusal import Refusal
from app.protocols.v2.repository import asked_for, stats, versions_of
from model_container.contract import frames

EXTENSIONS = ("model_configuration", "model_repository", "parameters", "statistics")


class Caller(Struct, frozen=True):
    """The sender of a request. key: "" for none."""

    key: str
    address: str
    request_id: str


class Answer(Struct, frozen=True):
    message: Any
    trailing: dict[str, str] = {}


class Service:
    """The methods. is_ready: whether every model that should be live takes traffic. flow: bounds from the settings."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        deployments: Deployments,
        is_ready: Callable[[], bool],
        flow: QueueSettings,
        wrong_keys: FailedKeyThrottle,
    ) -> None:
        self._dispatcher = dispatcher
        self._admission = admission
        self._deployments = deployments
        self._ledger = deployments.ledger
        self._is_ready = is_ready
        self._flow = flow
        self._wrong_keys = wrong_keys

    async def server_live(self, request: messages.ServerLiveRequest, caller: Caller) -> Answer:
        return Answer(messages.ServerLiveResponse(live=True))

    async def server_ready(self, request: messages.ServerReadyRequest, caller: Caller) -> Answer:
        return Answer(messages.ServerReadyResponse(ready=self._is_ready()))

    async def server_metadata(self, request: messages.ServerMetadataRequest, caller: Caller) -> Answer:
        return Answer(messages.ServerMetadataResponse(**server_document(EXTENSIONS)))

    async def model_ready(self, request: messages.ModelReadyRequest, caller: Caller) -> Answer:
        self._found(request.name, request.version, caller)
        endpoint = self._ledger.live_endpoint(ref_of(request.name, request.version))
        return Answer(messages.ModelReadyResponse(ready=endpoint is not None))

    async def model_metadata(self, request: messages.ModelMetadataRequest, caller: Caller) -> Answer:
        model = self._found(request.name, request.version, caller)
        versions = [one.version for one in self._ledger.versions(model.name)]
        return Answer(messages.ModelMetadataResponse(**model_document(model, versions)))

    async def model_infer(self, request: messages.ModelInferRequest, caller: Caller) -> Answer:
        ref = ref_of(request.model_name, request.model_version)
        counted_as = self._admit(ref, caller)
        call = Call(ref, tensors.body(request), counted_as, dialect=frames.DIALECT_V2_BINARY)
        waiting = self._dispatcher.begin(call)
        reply = await waiting.answer()
        headers = answer_headers(waiting, reply)
        if reply.form == frames.FORM_PROBLEM:
            problem = problem_document(reply.body, reply.status, caller.request_id)
            raise Refusal(problem["status"], f"{problem['detail']} {problem.get('hint', '')}".strip(), headers)
        return Answer(tensors.response(waiting, reply), headers)

    async def model_config(self, request: messages.ModelConfigRequest, caller: Caller) -> Answer:
        model = self._found(request.name, request.version, caller)
        said = config_document(model, self._ledger.deployment(model.model_id), self._flow)
        return Answer(messages.ModelConfigResponse(config=documents.model_config(said)))

    async def model_statistics(self, request: messages.ModelStatisticsRequest, caller: Caller) -> Answer:
        """Return the statistics of a model, or of every model if no name is given."""
        if request.name:
            self._admit(ref_of(request.name, request.version), caller)
            models = asked_for(self._ledger, request.name, request.version)
        else:
            self._admission.caller(caller.key, caller.address)
            models = list(self._ledger.models())
        return Answer(messages.ModelStatisticsResponse(**stats(models, self._dispatcher.tallies)))

    async def repository_index(self, request: messages.RepositoryIndexRequest, caller: Caller) -> Answer:
        self._admission.caller(caller.key, caller.address)
        shown = [one for one in self._ledger.deployments() if is_serving(one) or not request.ready]
        entry = messages.RepositoryIndexResponse.ModelIndex
        return Answer(messages.RepositoryIndexResponse(models=[entry(**index_entry(one)) for one in shown]))

    async def repository_model_load(self, request: messages.RepositoryModelLoadRequest, caller: Caller) -> Answer:
        self._check_admin(caller)
        if any(name == "config" or name.startswith("file:") for name in request.parameters):
            raise BadInput("A model is loaded as it was uploaded.", hint="Upload it anew with POST /models.")
        model = self._ledger.find(request.model_name)
        await self._deployments.start(model)
        error = (await self._deployments.settled(model.model_id)).error
        if error is not None and "status" in error:
            raise Refusal(error["status"], f"{error['detail']} {error.get('hint', '')}".strip(), {})
        return Answer(messages.RepositoryModelLoadResponse())

    async def repository_model_unload(self, request: messages.RepositoryModelUnloadRequest, caller: Caller) -> Answer:
        self._check_admin(caller)
        for model in versions_of(self._ledger, request.model_name):
            await self._deployments.stop(model)
        return Answer(messages.RepositoryModelUnloadResponse())

    def _found(self, name: str, version: str, caller: Caller) -> ModelVersion:
        ref = ref_of(name, version)
        self._admit(ref, caller)
        return self._ledger.find(ref)

    def _admit(self, ref: str, caller: Caller) -> str:
        """Return the name under which the caller is counted. Raises Unauthorized, then NotFound."""
        try:
            return self._admission.admit(caller.key, caller.address, ref)
        except PrismError as error:
            self._dispatcher.refusals[error.code] += 1
            raise

    def _check_admin(self, caller: Caller) -> None:
        """Check that the caller is an admin. Raises Unauthorized, Forbidden, RateLimited."""
        keys = self._admission.keys
        if not keys.of_admins:
            return
        self._wrong_keys.check(caller.address)
        if keys.is_admin(caller.key):
            return
        hint = f"Send one of {keys.of_admins} in the metadata `authorization` or `x-api-key`."
        if keys.known(caller.key):
            raise Forbidden("This API key may predict and look at models, and no more.", hint=hint)
        if caller.key:
            self._wrong_keys.note(caller.address, caller.key)
        raise Unauthorized("The API key is not known here." if caller.key else "No admin key was sent.", hint=hint)
