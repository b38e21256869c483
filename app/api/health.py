"""Reports the health of the server and of its monitor."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter

from app.core.route_table import failed_at_first, is_down, wanted
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.monitor import Monitor
from app.registry.unsaved import Unsaved
from app.version import VERSION

FAILED_SHOWN = 20


def router(
    deployments: Deployments, monitor: Monitor, unsaved: Unsaved, enabled: bool, grpc_port: int = 0
) -> APIRouter:
    """Return the routes. enabled: whether the monitor is to run. grpc_port: 0 for none."""
    routes = APIRouter(tags=["server"])
    state = deployments.state

    @routes.get("/health", summary="Server health")
    async def health() -> dict[str, Any]:
        """Tells whether models that should be live take traffic.

        status is "ok", or "degraded" while a model that was live, and should be, takes no traffic, or a target is gone.
        down: the model_id of each such model. failed: the model_id of each model that failed before it was ever live,
        and the code of its error, the newest 20; these do not degrade the status. A version that was dismissed, or that
        a newer one has replaced, is in neither. unavailable: the targets, such as docker, that are needed and do not
        answer, as the monitor found. grpc_port is null for none.
        """
        entries = state.deployments()
        needed = wanted(entries)
        down = [deployment.model_id for deployment in needed if is_down(deployment)]
        return {
            "status": "degraded" if down or monitor.unavailable else "ok",
            "version": VERSION,
            "models": Counter(deployment.status.value for deployment in entries),
            "down": down,
            "unavailable": monitor.unavailable,
            "failed": [
                {"model_id": deployment.model_id, "code": (deployment.error or {}).get("code", "")}
                for deployment in [deployment for deployment in needed if failed_at_first(deployment)][-FAILED_SHOWN:]
            ],
            "grpc_port": grpc_port or None,
        }

    @routes.get("/health/monitor", summary="Health monitor status")
    async def monitor_health() -> dict[str, Any]:
        """Tells what the health monitor found in its last cycle, and what is not saved yet.

        last_cycle is null until the first cycle has ended. unsaved: changes that are held in memory alone, as the disk
        refuses them; they are written again until they are on disk.
        """
        figures = monitor.figures or None
        return {"enabled": enabled, "running": monitor.running, "last_cycle": figures, "unsaved": unsaved.documents()}

    return routes
