"""GET /metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.dispatch.pipeline import Dispatcher
from app.lifecycle.state import DeploymentState
from app.observe.tally import ModelCounters


def router(state: DeploymentState, dispatcher: Dispatcher) -> APIRouter:
    routes = APIRouter(tags=["server"])

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Reports metrics in Prometheus' text format; docs/metrics.md explains each."""
        from app.observe.metrics import (  # takes 2 MB, so it is imported on demand
            CONTENT_TYPE_LATEST,
            ModelFigures,
            RequestCollector,
            exposition,
        )

        lanes = {lane.endpoint.model_id: lane for lane in dispatcher.lanes}
        evidence = dispatcher.evidence_by_version()
        models = []
        for deployment in state.deployments():
            lane, model = lanes.get(deployment.model_id), state.model(deployment.model_id)
            models.append(
                ModelFigures(
                    name=deployment.name,
                    version=deployment.version,
                    model_id=deployment.model_id,
                    tally=dispatcher.tallies.get(deployment.model_id) or ModelCounters(),
                    queued=lane.queued if lane is not None else 0,
                    live=lane is not None,
                    circuit=lane.circuit if lane is not None else "closed",
                    circuits={each.number: state for each, state in lane.circuits.items()} if lane is not None else {},
                    replicas_wanted=model.spec.replicas if model is not None and deployment.wanted else 0,
                    streams=dispatcher.open_streams(deployment.model_id),
                    evidence=evidence.get(deployment.model_id),
                )
            )
        return Response(exposition(RequestCollector(models, dispatcher.refusals)), media_type=CONTENT_TYPE_LATEST)

    return routes
