"""Wires settings, adapters, the two roads and the routes into one application; nothing else happens here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from app.api import health, metrics, models, predict, problems, registry
from app.api.guard import Guard, RequireKey
from app.core.hosts import Hosts
from app.core.model import Replica
from app.dispatch.admit import Keys, RateLimiter
from app.dispatch.batch import Flow
from app.dispatch.door import Door
from app.dispatch.link import connect as connect_link
from app.dispatch.pipeline import Dispatcher
from app.lifecycle.deployments import Deployments
from app.lifecycle.ledger import Ledger
from app.lifecycle.monitor import Monitor
from app.lifecycle.pipeline import Road
from app.lifecycle.probe import ReplicaLink
from app.registry.containers import ContainerRegistry
from app.registry.models import ModelStore
from app.runtime.resolutions import Resolutions
from app.runtime.targets import available_targets
from app.settings import Settings
from app.ui.pages import Pages
from app.ui.routes import dashboard, documentation

UI = Path(__file__).parent / "ui"
MIB = 1 << 20


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI application. Its lifespan adopts, resumes and, at the end, stops the models."""
    store = ModelStore(settings.upload_root)
    containers = ContainerRegistry(settings.registry_path)
    ledger = Ledger(store, containers)
    keys = Keys(settings.keys)

    def suspect(model_id: str, reason: str) -> None:
        if settings.enable_health_monitor:
            monitor.suspect(model_id, reason)

    dispatcher = Dispatcher(
        keys, RateLimiter(settings.rate_limit_requests, settings.rate_limit_window_seconds), flow(settings), suspect
    )
    hosts = Hosts(settings.allowed_hosts.split(","))
    targets = available_targets(settings)
    road = Road(
        settings=settings,
        ledger=ledger,
        targets=targets,
        resolve=Resolutions(settings.environments / "resolved", settings.resolution_max_age_hours * 3600).resolve,
        connect=connect,
        traffic=dispatcher,
    )
    deployments = Deployments(ledger, road, connect)
    monitor = Monitor(deployments, connect, settings.health_monitor_interval_seconds, settings.predict_timeout_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        containers.acquire()
        try:
            store.load()
            await deployments.resume(registry_lost=not containers.load())
            if settings.enable_health_monitor:
                monitor.begin()
            yield
            await monitor.end()
            await deployments.shut_down(keep_models=app.state.keep_models)
            await dispatcher.close()
        finally:
            containers.release()

    app = FastAPI(
        title="PRISM",
        version=health.VERSION,
        summary="From a model file to a live, safe endpoint.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.keep_models = False
    app.state.closing = asyncio.Event()
    app.state.door = Door(dispatcher, hosts, settings.max_body_mb * MIB, settings.receive_timeout_seconds)
    problems.install(app)
    pages = Pages(UI / "templates")
    keyed: list[Any] = [Depends(RequireKey(keys))]
    app.include_router(health.router(deployments, monitor, settings.enable_health_monitor))
    app.include_router(models.router(deployments, settings.max_upload_mb * MIB, app.state.closing), dependencies=keyed)
    app.include_router(registry.router(deployments), dependencies=keyed)
    app.include_router(metrics.router(ledger, dispatcher), dependencies=keyed)
    app.include_router(predict.router(dispatcher, settings.max_body_mb * MIB))
    app.include_router(dashboard.router(ledger, pages))
    app.include_router(documentation.router(pages))
    app.mount("/static", StaticFiles(directory=UI / "static"))
    app.add_middleware(Guard, hosts=hosts)
    return app


def flow(settings: Settings) -> Flow:
    return Flow(
        max_batch_size=settings.max_batch_size,
        queue_length=settings.queue_length,
        window_seconds=settings.batch_window_ms / 1000,
        timeout_seconds=settings.predict_timeout_seconds,
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
    )


async def connect(replica: Replica, timeout_seconds: float) -> tuple[ReplicaLink, dict[str, Any]]:
    """How the lifecycle reaches a replica: over the link of the request road."""
    link = await connect_link(replica, timeout_seconds)
    return link, link.welcomed.result()
