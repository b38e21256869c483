"""The Open Inference Protocol V2 without a transport: what each of its requests does, and to whom it is open.

REST (rest.py, repository.py) and gRPC (grpc/service.py) decode a request, call this, and encode what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from app.access.admission import Admission
from app.core.model import ModelVersion, Status
from app.core.route_table import is_serving
from app.dispatch.pipeline import Dispatcher
from app.dispatch.request import Call
from app.dispatch.v2 import ref_of
from app.errors import BadInput
from app.lifecycle.deployments import Deployments
from app.lifecycle.state import DeploymentState
from app.observe.tally import ModelCounters
from app.protocols.callers import Caller, Callers
from app.protocols.v2.documents import config_document, index_entry, model_document, stats_document
from model_container.contract import frames


class V2Service:
    """The protocol on one surface, for its admitted callers.

    is_ready: whether every model of the surface that should be live takes traffic. version: "" for the one to which the
    name leads. Methods with a caller raise RateLimited, Unauthorized, then NotFound.
    """

    def __init__(
        self, dispatcher: Dispatcher, admission: Admission, state: DeploymentState, is_ready: Callable[[], bool]
    ) -> None:
        self.is_ready = is_ready
        self._dispatcher = dispatcher
        self._callers = Callers(admission, dispatcher.refusals)
        self._state = state

    def identify(self, caller: Caller) -> str:
        """Return the name under which the caller is counted, where no model is asked."""
        return self._callers.identify(caller)

    def call(self, caller: Caller, name: str, version: str) -> Call:
        """Admit an inference, and return its call, to which the body is to be added."""
        ref = ref_of(name, version)
        counted_as = self._callers.admit(caller, ref)
        return Call(
            ref,
            b"",
            counted_as,
            request_id=caller.request_id,
            dialect=frames.DIALECT_V2_BINARY,
            identity=caller.identity,
        )

    def metadata(self, caller: Caller, name: str, version: str) -> dict[str, Any]:
        """Return a model's metadata. Raises Unavailable while its inputs are unknown."""
        model = self._find(caller, name, version)
        return model_document(model, [version.version for version in self._state.versions(model.name)])

    def readiness(self, caller: Caller, name: str, version: str) -> tuple[ModelVersion, bool]:
        """Return a model, and whether it takes traffic."""
        model = self._find(caller, name, version)
        return model, self._state.live_endpoint(ref_of(name, version)) is not None

    def status(self, model: ModelVersion) -> Status:
        return self._state.deployment(model.model_id).status

    def config(self, caller: Caller, name: str, version: str) -> dict[str, Any]:
        """Return a model's configuration. Raises Unavailable while its inputs are unknown."""
        model = self._find(caller, name, version)
        return config_document(model, self._state.deployment(model.model_id), self._dispatcher.flow)

    def statistics(self, caller: Caller, name: str = "", version: str = "") -> dict[str, Any]:
        """Return the statistics of all versions of a name, of the one that is given, or of every model without a name."""
        if name:
            self._callers.admit(caller, ref_of(name, version))
            models = self._versions(name, version)
        else:
            self.identify(caller)
            models = self._state.models()
        tallies = self._dispatcher.tallies
        return {
            "model_stats": [stats_document(model, tallies.get(model.model_id, ModelCounters())) for model in models]
        }

    def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """Return the repository index. only_ready: leave out models that take no traffic."""
        return [
            index_entry(deployment)
            for deployment in self._state.deployments()
            if is_serving(deployment) or not only_ready
        ]

    def _find(self, caller: Caller, name: str, version: str) -> ModelVersion:
        ref = ref_of(name, version)
        self._callers.admit(caller, ref)
        return self._state.find(ref)

    def _versions(self, name: str, version: str) -> Iterable[ModelVersion]:
        model = self._state.find(ref_of(name, version))
        if name != model.name or version:
            return [model]
        return self._state.versions(name)


class V2Admin:
    """The part of the protocol that is for admins. It is a class of its own, so that a public surface has none of it."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._state = deployments.state

    async def load(self, name: str, parameters: Iterable[str]) -> dict[str, Any] | None:
        """Start the version that served last, or else the newest; return once it is live, or its problem if it failed.

        parameters: the names of those that were sent. Raises BadInput, NotFound, Conflict.
        """
        if any(parameter == "config" or parameter.startswith("file:") for parameter in parameters):
            raise BadInput("A model is loaded as it was uploaded.", hint="Upload it again, as its next version.")
        model = self._state.find(name)
        await self._deployments.start(model)
        error = (await self._deployments.settled(model.model_id)).error
        return error if error is not None and "status" in error else None

    async def unload(self, name: str) -> None:
        """Stop all versions of a name, or the one version if `name` is `name@version` or a model_id. Raises NotFound."""
        model = self._state.find(name)
        for version in self._state.versions(name) or (model,):
            await self._deployments.stop(version)
