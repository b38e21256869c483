"""The prediction routes of the gateway over ASGI, in front of a replica that really predicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from fastapi import FastAPI
from msgspec import structs

from app.access.admission import Admission
from app.access.hosts import HostAllowList
from app.access.keys import Keys
from app.access.rate_limit import RateLimiter
from app.access.throttle import FailedKeyThrottle
from app.core.model import Artifact, Deployment, Status
from app.core.signature import Signature
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.error_shapes import ErrorForms
from app.http import problems
from app.http.body_limit import BodyLimit
from app.http.guard import HostOriginMiddleware
from app.lifecycle.state import DeploymentState
from app.protocols import mlflow, native, simple, v1, v1_models
from app.protocols.coalesce import Coalescer
from app.protocols.error_forms import ERROR_FORMS
from app.protocols.handler import InferenceHandler
from app.protocols.v2 import repository as v2_repository
from app.protocols.v2 import rest as v2_rest
from app.protocols.v2.documents import EXTENSIONS
from app.protocols.v2.service import V2Service
from app.registry.containers import ContainersFile
from app.registry.models import ModelStore
from model_container.adapters.base import Adapter
from model_container.batch import Batcher
from model_container.contract.frames import Answer, Request
from tests.fakes import FakeReplica, Handler
from tests.records import model_version, with_facts

MAX_BODY_BYTES = 1 << 18
FLOW = QueueSettings(
    max_batch_size=8, queue_length=32, window_seconds=0.05, timeout_seconds=20, heartbeat_timeout_seconds=20
)


@dataclass
class Gateway:
    """replica: of the model `iris`, 1.0.0."""

    app: FastAPI
    http: httpx2.AsyncClient
    state: DeploymentState
    registry: ContainersFile
    store: ModelStore
    dispatcher: Dispatcher
    replica: FakeReplica

    async def add(self, model_id: str, name: str, version: str = "1.0.0", **changes: Any) -> None:
        """Another one behind the same replica, live unless the changes of its deployment say otherwise."""
        first = self.store.get("m1")
        assert first is not None
        await self.store.save(with_facts(first, model_id=model_id, name=name, version=version))
        running = structs.replace(self.replica.replica, model_id=model_id)
        deployment = live(model_id, name, version, running)
        await self.registry.save(structs.replace(deployment, **changes))
        await self.dispatcher.publish(self.state.route_table())


def live(model_id: str, name: str, version: str, replica: Any) -> Deployment:
    return Deployment(
        model_id, name, version, Status.LIVE, True, "process", (replica,), live_at="2026", created_at=model_id
    )


def predicting(adapter: Adapter) -> Handler:
    batcher = Batcher(adapter)

    async def handle(requests: list[Request]) -> list[Answer]:
        return batcher.run(requests)[0]

    return handle


@asynccontextmanager
async def gateway(
    folder: Path,
    adapter: Adapter,
    *,
    keys: Sequence[str] = (),
    rate_limit: int = 0,
    batched_wait_seconds: float = 0.2,
    handler: Handler | None = None,
    error_forms: ErrorForms = ERROR_FORMS,
) -> AsyncIterator[Gateway]:
    store, registry = ModelStore(folder / "models"), ContainersFile(folder / "containers.json")
    state = DeploymentState(store, registry)
    replica = FakeReplica(folder / "1.sock", handler or predicting(adapter))
    await replica.start()
    signature = msgspec.convert(adapter.signature(), Signature)
    sample = adapter.samples()[0]
    await store.save(
        model_version(
            "m1", "iris", "1.0.0", Artifact("iris.pkl", "0" * 64, 1), "2026", signature=signature, sample=sample
        )
    )
    await registry.save(live("m1", "iris", "1.0.0", replica.replica))
    dispatcher = Dispatcher(RateLimiter(rate_limit, 3600), FLOW, lambda *_: None)
    await dispatcher.publish(state.route_table())
    app = application(state, dispatcher, Keys(keys), batched_wait_seconds, error_forms)
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8000")
    try:
        async with http:
            yield Gateway(app, http, state, registry, store, dispatcher, replica)
    finally:
        await dispatcher.close()
        await replica.die()


def application(
    state: DeploymentState,
    dispatcher: Dispatcher,
    keys: Keys,
    batched_wait_seconds: float,
    error_forms: ErrorForms,
) -> FastAPI:
    """Return the application as main.py wires it, without the routes that change deployments."""
    app = FastAPI()
    problems.install(app, error_forms)
    admission = Admission(
        keys, must_have_key=lambda: keys.required, has_host=HostAllowList([]).known, wrong_keys=FailedKeyThrottle()
    )
    asking = InferenceHandler(dispatcher, admission, MAX_BODY_BYTES)
    app.include_router(native.router(asking))
    service = V2Service(dispatcher, admission, state, lambda: state.live_endpoint("iris") is not None)
    app.include_router(v2_repository.router(asking, service))
    app.include_router(v2_rest.router(asking, service, EXTENSIONS))
    app.include_router(v1_models.router(asking, partial(v1.listed_models, asking)))
    app.include_router(v1.router(asking, state))
    app.include_router(mlflow.router(asking))
    app.include_router(simple.router(asking, Coalescer(batched_wait_seconds, FLOW.max_batch_size)))
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(HostOriginMiddleware, hosts=HostAllowList([]))
    return app
