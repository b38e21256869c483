"""The gateway as one ASGI application: every route, with the parts that it calls. Nothing else happens here.

`app` is for `uvicorn app.main:app`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.staticfiles import StaticFiles

from app.access.sessions import Sessions
from app.api import chaos as chaos_api
from app.api import deployments as deployments_api
from app.api import doctor, experiments, health, inspections, metrics, models, registry, replacement, versions
from app.api import keys as keys_api
from app.api import models_folder as models_folder_api
from app.api import shadows as shadows_api
from app.api import share as share_api
from app.api import storage as storage_api
from app.dispatch.head_cache import HeadCache
from app.foreground import Foreground
from app.gateway import Gateway
from app.http import problems
from app.http.body_limit import BodyLimit
from app.http.guard import HostOriginMiddleware, LoginNeeded, RequireAdmin, redirect_to_login
from app.http.head import HeadAsGet
from app.protocols import generate, mlflow, native, simple, v1, v1_models
from app.protocols.coalesce import Coalescer
from app.protocols.error_forms import ERROR_FORMS
from app.protocols.handler import InferenceHandler
from app.protocols.v2 import repository as v2_repository
from app.protocols.v2 import rest as v2_rest
from app.protocols.v2.documents import EXTENSIONS
from app.settings import Settings
from app.ui.pages import Pages, wants_page
from app.ui.problem_page import problem_page
from app.ui.routes import clearing, dashboard, documentation, login, predict_table
from app.ui.routes import logs as logs_page
from app.ui.routes import model as model_page
from app.ui.routes import predict as predict_page
from app.ui.routes import rollout as rollout_page
from app.ui.routes import settings as settings_page
from app.ui.routes import shadow as shadow_page
from app.ui.routes import share as share_panel
from app.ui.routes import upload as upload_page
from app.ui.routes import versions as versions_page
from app.version import VERSION

UI = Path(__file__).parent / "ui"


def create_app(settings: Settings) -> FastAPI:
    """Create the application. Its lifespan adopts and resumes the models and, at the end, stops them."""
    system = Gateway(settings)
    pages, sessions = Pages(UI / "templates"), Sessions()
    app = FastAPI(
        title="PRISM",
        version=VERSION,
        summary="From a model file to a live, safe endpoint.",
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
    )
    app.state.system = system
    app.state.keep_models = False
    app.state.door = HeadCache(
        system.dispatcher, system.admission, ERROR_FORMS, system.max_body_bytes, settings.receive_timeout_seconds
    )
    app.state.share = system.share
    problems.install(app, ERROR_FORMS, problem_page(pages))
    app.add_exception_handler(LoginNeeded, redirect_to_login)
    admins: list[Any] = [Depends(RequireAdmin(system.keys, sessions, system.wrong_keys))]
    app.include_router(
        health.router(
            system.deployments, system.monitor, system.unsaved, settings.enable_health_monitor, settings.grpc_port
        )
    )
    include_pages(app, system, pages, sessions, admins)  # first: at a path of both, browsers get the page
    include_administration(app, system, admins)
    include_predictions(app, system, admins)
    app.add_middleware(BodyLimit, max_bytes=system.max_body_bytes)
    app.add_middleware(HostOriginMiddleware, hosts=system.hosts, only_here=not settings.keys_of_admins)
    app.add_middleware(HeadAsGet)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    system: Gateway = app.state.system
    system.acquire()
    try:
        await system.begin()
        yield
        await system.end(keep_models=app.state.keep_models)
    finally:
        system.release()


def include_administration(app: FastAPI, system: Gateway, admins: list[Any]) -> None:
    """Add the routes for admins: the models there are, the metrics, and everything that changes something.

    They are also under /api/v1, which the page of the API does not list again.
    """
    deployments, share = system.deployments, system.share
    routes = models.ModelRoutes(
        deployments=deployments,
        staging=system.staging,
        vitals=system.vitals,
        max_upload_bytes=system.max_upload_bytes,
        closing=system.closing,
        public_url=share.public_url,
        circuits=system.dispatcher.circuits,
    )
    management = APIRouter()
    management.include_router(routes.router(), dependencies=admins)
    management.include_router(versions.router(system.state), dependencies=admins)
    management.include_router(chaos_api.router(system.chaos, system.state), dependencies=admins)
    management.include_router(inspections.router(deployments.pipeline.readers), dependencies=admins)
    management.include_router(storage_api.router(deployments), dependencies=admins)
    management.include_router(doctor.router(system.settings), dependencies=admins)
    management.include_router(replacement.router(deployments), dependencies=admins)
    management.include_router(registry.router(deployments, share.public_url), dependencies=admins)
    management.include_router(models_folder_api.router(system.models_folder), dependencies=admins)
    management.include_router(share_api.router(share, system.state), dependencies=admins)
    management.include_router(keys_api.router(system.key_store), dependencies=admins)
    management.include_router(metrics.router(system.state, system.dispatcher), dependencies=admins)
    rollouts = deployments_api.DeploymentRoutes(system.canaries, system.shadows, system.experiments, system.closing)
    management.include_router(rollouts.router(), dependencies=admins)
    management.include_router(shadows_api.ShadowRoutes(system.shadows).router(), dependencies=admins)
    asking = InferenceHandler(system.dispatcher, system.admission, system.max_body_bytes)
    ab = experiments.ExperimentRoutes(system.experiments, asking)
    management.include_router(ab.router(), dependencies=admins)
    management.include_router(ab.feedback_router())
    app.include_router(management)
    app.mount("/api/v1", management)


def include_predictions(app: FastAPI, system: Gateway, admins: list[Any]) -> None:
    """Add the routes for every admitted caller: predictions in each protocol, and its queries about models."""
    settings, state = system.settings, system.state
    asking = InferenceHandler(system.dispatcher, system.admission, system.max_body_bytes)
    app.include_router(native.router(asking))
    app.include_router(v2_repository.router(asking, system.v2_service))
    app.include_router(v2_repository.admin_router(asking, system.v2_admin), dependencies=admins)
    app.include_router(v2_rest.router(asking, system.v2_service, EXTENSIONS))
    app.include_router(generate.router(asking))
    app.include_router(v1_models.router(asking, partial(v1.listed_models, asking)))
    app.include_router(v1.router(asking, state))
    app.include_router(mlflow.router(asking))
    app.include_router(simple.router(asking, Coalescer(settings.batched_wait_ms / 1000, settings.max_batch_size)))


def include_pages(app: FastAPI, system: Gateway, pages: Pages, sessions: Sessions, admins: list[Any]) -> None:
    """Add the pages for people."""
    deployments, state, history, vitals = system.deployments, system.state, system.history, system.vitals
    admins_but_programs = [Depends(RequireAdmin(system.keys, sessions, system.wrong_keys, is_program_at_root))]
    app.include_router(
        dashboard.router(deployments, system.models_folder, history, vitals, pages, system.settings, system.monitor),
        dependencies=admins_but_programs,
    )
    may_see_models = RequireAdmin(system.keys, sessions, system.wrong_keys).admits
    app.include_router(documentation.router(pages, state, may_see_models, system.admission.must_have_key))
    app.include_router(login.router(system.keys, sessions, pages))
    app.include_router(
        predict_page.router(state, system.dispatcher, system.admission, pages, system.max_body_bytes),
        dependencies=admins,
    )
    app.include_router(clearing.router(deployments, pages), dependencies=admins)
    asking = InferenceHandler(system.dispatcher, system.admission, system.max_body_bytes)
    app.include_router(predict_table.router(state, asking, system.admission, pages), dependencies=admins)
    app.include_router(logs_page.router(deployments, pages), dependencies=admins)
    app.include_router(versions_page.router(deployments, pages), dependencies=admins)
    app.include_router(shadow_page.router(state, system.shadows, pages), dependencies=admins)
    app.include_router(rollout_page.router(state, system.canaries, history, pages), dependencies=admins)
    app.include_router(
        model_page.router(deployments, history, vitals, system.dispatcher.circuits, system.chaos.of, pages),
        dependencies=admins,
    )
    app.include_router(
        upload_page.router(deployments, system.staging, pages, system.max_upload_bytes), dependencies=admins
    )
    app.include_router(share_panel.router(system.share, state, pages), dependencies=admins)
    app.include_router(
        settings_page.router(system.settings, system.key_store, system.keys, system.unsaved, deployments, pages),
        dependencies=admins,
    )
    app.mount("/static", StaticFiles(directory=UI / "static"))


def is_program_at_root(request: Request) -> bool:
    """Return whether a program asks for `/`, where a browser gets the page of models."""
    return request.url.path == "/" and not wants_page(request)


app = Foreground(create_app)
