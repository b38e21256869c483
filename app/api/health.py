"""Is the server well, and what is its monitor doing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter

from app.core.route_table import serves
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.monitor import Monitor
from app.registry.unsaved import Unsaved
from app.version import VERSION


def router(
    deployments: Deployments, monitor: Monitor, unsaved: Unsaved, enabled: bool, grpc_port: int = 0
) -> APIRouter:
    """enabled: whether the monitor is to run. grpc_port: 0 for none."""
    routes = APIRouter(tags=["server"])
    ledger = deployments.ledger

    @routes.get("/health", summary="Is the server well")
    async def health() -> dict[str, Any]:
        """status is "ok", or "degraded" while a model that is wanted takes no traffic. grpc_port is null for none."""
        entries = ledger.deployments()
        down = [one.model_id for one in entries if one.wanted and not serves(one)]
        counts = Counter(one.status.value for one in entries)
        status = "degraded" if down else "ok"
        return {"status": status, "version": VERSION, "models": counts, "down": down, "grpc_port": grpc_port or None}

    @routes.get("/health/monitor", summary="What the monitor sees")
    async def monitor_health() -> dict[str, Any]:
        """last_cycle is null until the first cycle has ended. unsaved: what holds from memory alone, as the disk
        refuses it; it is written again until it is there."""
        figures = monitor.figures or None
        return {"enabled": enabled, "running": monitor.running, "last_cycle": figures, "unsaved": unsaved.documents()}

    return routes
