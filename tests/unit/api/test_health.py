"""Whether the server calls itself well and ready, on the whole application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.access.admins import AdminCheck
from app.core.model import Artifact, Replica, Status
from app.errors import TargetUnavailable
from app.lifecycle.state import DeploymentState
from app.main import create_app
from app.protocols.callers import Caller
from app.protocols.v2.grpc import inference_pb2 as messages
from app.protocols.v2.grpc.service import Service
from app.settings import Settings
from tests.records import model_version

CALLER = Caller(key="", address="127.0.0.1", request_id="")


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(Settings(home=tmp_path, target="process"))


@asynccontextmanager
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8000") as http:
        yield http


async def record(app: FastAPI, model_id: str, status: Status, name: str = "", **changes: Any) -> None:
    """One that is wanted and takes no traffic."""
    state: DeploymentState = app.state.system.state
    model = model_version(model_id, name or f"model-{model_id}", "1.0.0", Artifact("model.pkl", "0" * 64, 1), "2026")
    await state.add(model, wanted=True, status=status)
    await state.update(model_id, **changes)


async def told(app: FastAPI) -> tuple[dict[str, Any], int, bool]:
    """GET /health, the status of GET /v2/health/ready, and what ServerReady says."""
    here = app.state.system
    admins = AdminCheck(here.keys, here.wrong_keys)
    service = Service(here.dispatcher, here.v2_service, here.v2_admin, admins)
    ready = await service.server_ready(messages.ServerReadyRequest(), CALLER)
    async with client(app) as http:
        health = (await http.get("/health")).json()
        return health, (await http.get("/v2/health/ready")).status_code, ready.message.ready


async def test_a_failed_upload_that_was_never_live_is_listed_but_does_not_degrade_the_server(app: FastAPI) -> None:
    await record(app, "m1", Status.FAILED, error={"code": "start_failed", "detail": "It does not load."})
    health, ready, grpc_ready = await told(app)
    assert (health["status"], health["down"], ready, grpc_ready) == ("ok", [], 200, True)
    assert health["failed"] == [{"model_id": "m1", "code": "start_failed"}]
    assert health["models"] == {"failed": 1}


async def test_a_first_deployment_in_progress_does_not_degrade_the_server(app: FastAPI) -> None:
    await record(app, "m1", Status.BUILDING)
    health, ready, grpc_ready = await told(app)
    assert (health["status"], health["down"], health["failed"], ready, grpc_ready) == ("ok", [], [], 200, True)


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNHEALTHY, Status.STARTING])
async def test_a_model_that_was_live_and_should_be_degrades_the_server(app: FastAPI, status: Status) -> None:
    await record(app, "m1", status, live_at="2026", error={"code": "start_failed"})
    health, ready, grpc_ready = await told(app)
    assert (health["status"], health["down"], ready, grpc_ready) == ("degraded", ["m1"], 503, False)
    assert health["failed"] == []


async def test_a_version_that_is_down_beside_one_that_serves_its_name_degrades_the_server_and_leaves_it_ready(
    app: FastAPI,
) -> None:
    replica = Replica("m1", "process", "1:1", "t", "")
    await record(app, "m1", Status.LIVE, "iris", live_at="2026", replicas=(replica,))
    await record(app, "m2", Status.UNHEALTHY, "iris", live_at="2027")
    health, ready, grpc_ready = await told(app)
    assert (health["status"], health["down"], ready, grpc_ready) == ("degraded", ["m2"], 200, True)


async def test_a_failed_version_that_a_newer_one_has_replaced_or_a_person_dismissed_is_not_counted(
    app: FastAPI,
) -> None:
    state: DeploymentState = app.state.system.state
    for model_id, name, error in (("m1", "iris", "2026-01-01"), ("m2", "iris", "2026-01-02"), ("m3", "rose", "2026")):
        model = model_version(model_id, name, f"1.{model_id[1]}.0", Artifact("m.pkl", "0" * 64, 1), error)
        await state.add(model, wanted=True, status=Status.FAILED)
    health, *_ = await told(app)
    assert [model["model_id"] for model in health["failed"]] == ["m1", "m2", "m3"]
    replica = Replica("m2", "process", "1:1", "t", "")
    await state.update("m2", status=Status.LIVE, live_at="2026-01-03", replicas=(replica,))
    await state.update("m1", live_at="2026-01-01")
    health, ready, grpc_ready = await told(app)
    assert (health["status"], health["down"], ready, grpc_ready) == ("ok", [], 200, True)
    assert [model["model_id"] for model in health["failed"]] == ["m3"]
    async with client(app) as http:
        documents = {model["model_id"]: model for model in (await http.get("/models")).json()["models"]}
        assert [documents[id]["superseded"] for id in ("m1", "m2", "m3")] == [True, False, False]
        dismissed = (await http.post("/models/rose/dismiss")).json()
        assert (dismissed["status"], dismissed["wanted"]) == ("failed", False)
    assert (await told(app))[0]["failed"] == []


async def test_the_health_says_when_the_engine_is_gone_and_when_it_is_back(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, targets = app.state.system.monitor, app.state.system.deployments.pipeline.targets
    await monitor.cycle()
    assert (await told(app))[0]["unavailable"] == []

    def gone() -> None:
        raise TargetUnavailable("No engine answers.")

    await record(app, "m1", Status.BUILDING, target="docker")
    with monkeypatch.context() as without_engine:
        without_engine.setattr(targets.known["docker"], "require_available", gone)
        with capture_logs():
            await monitor.cycle()
        health, *_ = await told(app)
        assert (health["status"], health["unavailable"]) == ("degraded", ["docker"])
        async with client(app) as http:
            assert "Docker does not answer" in (await http.get("/", headers={"Accept": "text/html"})).text
    monkeypatch.setattr(targets.known["docker"], "require_available", lambda: None)
    with capture_logs():
        await monitor.cycle()
    health, *_ = await told(app)
    assert (health["status"], health["unavailable"]) == ("ok", [])
