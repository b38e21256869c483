"""Wires settings, adapters, the two roads and the routes into one application; nothing else happens here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request
from fastapi.staticfiles import StaticFiles

from app.api import (
    by_name,
    generate,
    health,
    kserve,
    metrics,
    mlflow,
    models,
    predict,
    problems,
    registry,
    v2,
    v2_repository,
)
from app.api import keys as keys_api
from app.api import models_folder as models_folder_api
from app.api import share as share_api
from app.api.asking import Asking
from app.api.body_limit import BodyLimit
from app.api.guard import Guard, LoginNeeded, RequireAdmin, to_login
from app.api.sessions import Sessions
from app.api.v2_documents import EXTENSIONS
from app.api.wrong_keys import WrongKeys
from app.core.hosts import Hosts
from app.core.model import Replica
from app.core.route_table import serves
from app.dispatch.admit import Admission, Keys, RateLimiter
from app.dispatch.batch import Flow
from app.dispatch.company import Company
from app.dispatch.door import Door
from app.dispatch.link import connect as connect_link
from app.dispatch.pipeline import Dispatcher
from app.lifecycle.deployments import Deployments
from app.lifecycle.ledger import Ledger
from app.lifecycle.models_folder import ModelsFolder
from app.lifecycle.monitor import Monitor
from app.lifecycle.pipeline import Road
from app.lifecycle.probe import ReplicaLink
from app.lifecycle.staging import Staging
from app.lifecycle.vitals import Vitals
from app.observe.history import History
from app.public_surface import PublicSurface
from app.registry.containers import ContainerRegistry
from app.registry.keys import KeyEntry, KeyStore
from app.registry.models import ModelStore
from app.runtime import process_tree
from app.runtime.resolutions import Resolutions
from app.runtime.targets import available_targets
from app.settings import Settings
from app.share.ngrok import NgrokTunnel
from app.share.record import ShareRecord
from app.share.share import Share
from app.share.ssh import SshTunnel
from app.share.traffic import FollowedTraffic
from app.share.tunnel import NewKey, Tunnel
from app.ui.pages import Pages, wants_page
from app.ui.problem_page import problem_page
from app.ui.routes import dashboard, documentation, login
from app.ui.routes import logs as logs_page
from app.ui.routes import model as model_page
from app.ui.routes import predict as predict_page
from app.ui.routes import settings as settings_page
from app.ui.routes import share as share_panel
from app.ui.routes import upload as upload_page

if TYPE_CHECKING:
    import grpc

UI = Path(__file__).parent / "ui"
MIB = 1 << 20


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI application. Its lifespan adopts, resumes and, at the end, stops the models."""
    store = ModelStore(settings.upload_root)
    containers = ContainerRegistry(settings.registry_path)
    ledger = Ledger(store, containers)
    keys = Keys(settings.keys, settings.keys_of_admins)
    wrong_keys = WrongKeys()
    key_store = KeyStore(settings.registry_path.with_name("keys.json"))
    key_store.tell(keys)

    def suspect(replica: Replica, reason: str) -> None:
        if settings.enable_health_monitor:
            monitor.suspect(replica, reason)

    limits = RateLimiter(settings.rate_limit_requests, settings.rate_limit_window_seconds)
    dispatcher = Dispatcher(limits, flow(settings), suspect)
    hosts = Hosts(settings.allowed_hosts.split(","))
    admission = Admission(keys, must_have_key=lambda: keys.required, has_host=hosts.known)
    targets = available_targets(settings)
    road = Road(
        settings=settings,
        ledger=ledger,
        targets=targets,
        resolve=Resolutions(settings.environments / "resolved", settings.resolution_max_age_hours * 3600).resolve,
        connect=connect,
        traffic=FollowedTraffic(dispatcher, lambda table: share.follow(table)),
    )
    deployments = Deployments(ledger, road, connect)
    public_surface = PublicSurface(
        ledger,
        dispatcher,
        keys,
        max_body_bytes=settings.max_body_mb * MIB,
        receive_timeout_seconds=settings.receive_timeout_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        drain_timeout_seconds=settings.drain_timeout_seconds,
    )
    share = Share(
        tunnel(settings),
        public_surface,
        ShareRecord(settings.registry_path.with_name("share.json"), process_tree),
        has_keys=lambda: keys.required or bool(key_store.entries()),
        create_key=lambda name: new_key(*key_store.create(name)),
    )
    staging = Staging(deployments)
    models_folder = ModelsFolder(deployments, settings.models_folder, settings.models_dir_interval_seconds)
    history = History(dispatcher.tallies)
    vitals = Vitals(deployments)
    monitor = Monitor(deployments, connect, settings.health_monitor_interval_seconds, settings.predict_timeout_seconds)

    grpc_listener = grpc_server(settings, dispatcher, admission, deployments, wrong_keys)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        containers.acquire()
        try:
            await share.clear_up()
            store.load()
            key_store.load()
            await deployments.resume(registry_lost=not containers.load())
            if settings.enable_health_monitor:
                monitor.begin()
            history.begin()
            models_folder.begin()
            if settings.enable_tunnel:
                await share.share_everything(ledger.route_table())
            if grpc_listener is not None:
                await grpc_listener.start()
            yield
            if grpc_listener is not None:
                await grpc_listener.stop(settings.drain_timeout_seconds)
            await share.close()
            await public_surface.close()
            await history.end()
            await models_folder.end()
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
    app.state.door = Door(dispatcher, admission, settings.max_body_mb * MIB, settings.receive_timeout_seconds)
    app.state.public_surface = public_surface
    app.state.share = share
    pages = Pages(UI / "templates")
    problems.install(app, problem_page(pages))
    sessions = Sessions()
    admins: list[Any] = [Depends(RequireAdmin(keys, sessions, wrong_keys))]
    admins_but_programs: list[Any] = [Depends(RequireAdmin(keys, sessions, wrong_keys, asks_who_this_is))]
    app.add_exception_handler(LoginNeeded, to_login)
    app.include_router(health.router(deployments, monitor, settings.enable_health_monitor, settings.grpc_port))
    max_upload_bytes = settings.max_upload_mb * MIB
    app.include_router(
        models.router(
            deployments, staging, max_upload_bytes, app.state.closing, share.public_url, dispatcher.circuits, vitals
        ),
        dependencies=admins,
    )
    app.include_router(registry.router(deployments, share.public_url), dependencies=admins)
    app.include_router(models_folder_api.router(models_folder), dependencies=admins)
    app.include_router(share_api.router(share, ledger), dependencies=admins)
    app.include_router(keys_api.router(key_store), dependencies=admins)
    app.include_router(metrics.router(ledger, dispatcher), dependencies=admins)
    asking = Asking(dispatcher, admission, settings.max_body_mb * MIB)
    app.include_router(predict.router(asking))
    app.include_router(v2_repository.router(asking, ledger, dispatcher.tallies, flow(settings)))
    app.include_router(v2_repository.admin_router(asking, deployments), dependencies=admins)
    app.include_router(v2.router(asking, ledger, lambda: all_wanted_serve(ledger), EXTENSIONS))
    app.include_router(generate.router(asking))
    app.include_router(kserve.list_router(asking))
    app.include_router(kserve.router(asking, ledger))
    app.include_router(mlflow.router(asking))
    app.include_router(by_name.router(asking, Company(settings.batched_wait_ms / 1000, settings.max_batch_size)))
    app.include_router(
        dashboard.router(deployments, models_folder, history, vitals, pages, max_upload_bytes),
        dependencies=admins_but_programs,
    )
    app.include_router(documentation.router(pages))
    app.include_router(login.router(keys, sessions, pages))
    app.include_router(
        predict_page.router(ledger, dispatcher, admission, pages, settings.max_body_mb * MIB), dependencies=admins
    )
    app.include_router(logs_page.router(deployments, pages), dependencies=admins)
    app.include_router(model_page.router(deployments, history, vitals, dispatcher.circuits, pages), dependencies=admins)
    app.include_router(upload_page.router(deployments, staging, pages, max_upload_bytes), dependencies=admins)
    app.include_router(share_panel.router(share, ledger, pages), dependencies=admins)
    app.include_router(settings_page.router(settings, key_store, keys, pages), dependencies=admins)
    app.mount("/static", StaticFiles(directory=UI / "static"))
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_mb * MIB)
    app.add_middleware(Guard, hosts=hosts)
    return app


def grpc_server(
    settings: Settings, dispatcher: Dispatcher, admission: Admission, deployments: Deployments, wrong_keys: WrongKeys
) -> grpc.aio.Server | None:
    """Bound, not started; None where no port is set for it. Needs a running loop. Raises InvalidSetting."""
    if not settings.grpc_port:
        return None
    from app.grpc.server import bound
    from app.grpc.service import Service

    def is_ready() -> bool:
        return all_wanted_serve(deployments.ledger)

    service = Service(dispatcher, admission, deployments, is_ready, flow(settings), wrong_keys)
    return bound(service, settings.host, settings.grpc_port, settings.max_body_mb * MIB)


def asks_who_this_is(request: Request) -> bool:
    """A program at `/`, where a browser gets the models."""
    return request.url.path == "/" and not wants_page(request)


def all_wanted_serve(ledger: Ledger) -> bool:
    return all(serves(one) for one in ledger.deployments() if one.wanted)


def flow(settings: Settings) -> Flow:
    return Flow(
        max_batch_size=settings.max_batch_size,
        queue_length=settings.queue_length,
        window_seconds=settings.batch_window_ms / 1000,
        timeout_seconds=settings.predict_timeout_seconds,
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
        log_timings=settings.debug_mode,
        max_streams=settings.max_streams,
    )


def tunnel(settings: Settings) -> Tunnel:
    """The way out that PRISM_TUNNEL names."""
    timeout = settings.tunnel_start_timeout_seconds
    if settings.ssh_tunnel is None:
        token, folder = settings.ngrok_authtoken.get_secret_value(), settings.run_folder / "ngrok"
        return NgrokTunnel(token, folder, process_tree, start_timeout_seconds=timeout)
    return SshTunnel(
        settings.ssh_tunnel,
        process_tree,
        start_timeout_seconds=timeout,
        identity=settings.tunnel_identity,
        known_hosts=settings.tunnel_known_hosts,
    )


def new_key(entry: KeyEntry, key: str) -> NewKey:
    return NewKey(entry.id, entry.name, key)


async def connect(replica: Replica, timeout_seconds: float) -> tuple[ReplicaLink, dict[str, Any]]:
    """How the lifecycle reaches a replica: over the link of the request road."""
    link = await connect_link(replica, timeout_seconds)
    return link, link.welcomed.result()
