"""The methods of the Open Inference Protocol's GRPCInferenceService, each equivalent to its REST route.

A caller's key comes in the metadata `authorization` or `x-api-key`. What REST sends in the headers of a prediction is
sent as trailing metadata.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from app.access.admins import AdminCheck
from app.dispatch.pipeline import Dispatcher
from app.dispatch.response import answer_headers, problem_document
from app.protocols.callers import Caller
from app.protocols.v2.documents import server_document
from app.protocols.v2.grpc import documents, tensors
from app.protocols.v2.grpc import inference_pb2 as messages
from app.protocols.v2.grpc.refusal import of_problem
from app.protocols.v2.service import V2Admin, V2Service
from model_container.contract import frames

EXTENSIONS = ("model_configuration", "model_repository", "parameters", "statistics")


class Answer(Struct, frozen=True):
    message: Any
    trailing: dict[str, str] = {}


class Service:
    """The methods: they translate between messages and the service. admins: checks who may load and unload models."""

    def __init__(self, dispatcher: Dispatcher, service: V2Service, admin: V2Admin, admins: AdminCheck) -> None:
        self._dispatcher = dispatcher
        self._service = service
        self._admin = admin
        self._admins = admins

    async def server_live(self, request: messages.ServerLiveRequest, caller: Caller) -> Answer:
        return Answer(messages.ServerLiveResponse(live=True))

    async def server_ready(self, request: messages.ServerReadyRequest, caller: Caller) -> Answer:
        return Answer(messages.ServerReadyResponse(ready=self._service.is_ready()))

    async def server_metadata(self, request: messages.ServerMetadataRequest, caller: Caller) -> Answer:
        return Answer(messages.ServerMetadataResponse(**server_document(EXTENSIONS)))

    async def model_ready(self, request: messages.ModelReadyRequest, caller: Caller) -> Answer:
        _, is_ready = self._service.readiness(caller, request.name, request.version)
        return Answer(messages.ModelReadyResponse(ready=is_ready))

    async def model_metadata(self, request: messages.ModelMetadataRequest, caller: Caller) -> Answer:
        document = self._service.metadata(caller, request.name, request.version)
        return Answer(messages.ModelMetadataResponse(**document))

    async def model_infer(self, request: messages.ModelInferRequest, caller: Caller) -> Answer:
        call = self._service.call(caller, request.model_name, request.model_version)
        pending = self._dispatcher.begin(structs.replace(call, body=tensors.body(request)))
        reply = await pending.answer()
        headers = answer_headers(pending, reply)
        if reply.form == frames.FORM_PROBLEM:
            raise of_problem(problem_document(reply.body, reply.status, caller.request_id), headers)
        return Answer(tensors.response(pending, reply), headers)

    async def model_config(self, request: messages.ModelConfigRequest, caller: Caller) -> Answer:
        document = self._service.config(caller, request.name, request.version)
        return Answer(messages.ModelConfigResponse(config=documents.model_config(document)))

    async def model_statistics(self, request: messages.ModelStatisticsRequest, caller: Caller) -> Answer:
        """Return the statistics of a model, or of every model if no name is given."""
        document = self._service.statistics(caller, request.name, request.version)
        return Answer(messages.ModelStatisticsResponse(**document))

    async def repository_index(self, request: messages.RepositoryIndexRequest, caller: Caller) -> Answer:
        self._service.identify(caller)
        entry = messages.RepositoryIndexResponse.ModelIndex
        entries = [entry(**model) for model in self._service.index(only_ready=request.ready)]
        return Answer(messages.RepositoryIndexResponse(models=entries))

    async def repository_model_load(self, request: messages.RepositoryModelLoadRequest, caller: Caller) -> Answer:
        self._check_admin(caller)
        problem = await self._admin.load(request.model_name, request.parameters)
        if problem is not None:
            raise of_problem(problem, {})
        return Answer(messages.RepositoryModelLoadResponse())

    async def repository_model_unload(self, request: messages.RepositoryModelUnloadRequest, caller: Caller) -> Answer:
        self._check_admin(caller)
        await self._admin.unload(request.model_name)
        return Answer(messages.RepositoryModelUnloadResponse())

    def _check_admin(self, caller: Caller) -> None:
        """Check that the caller is an admin. Raises Unauthorized, Forbidden, RateLimited."""
        hint = f"Send one of {self._admins.keys.of_admins} in the metadata `authorization` or `x-api-key`."
        self._admins.check(caller.key, caller.address, hint)
