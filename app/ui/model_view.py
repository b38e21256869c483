"""Contents of a model's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from app.core.acceleration import AccelerationStatus
from app.core.model import REPLICAS_MAX, Deployment, Limits, ModelVersion, Replica
from app.core.route_table import is_serving
from app.core.signature import Tensor
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.usage import ReplicaUsage, UsageSampler
from app.lifecycle.logs.model_log import model_log
from app.observe.history import History
from app.ui.charts import Chart, charts
from app.ui.figures import seconds_since, significant
from app.ui.statuses import StepShown, in_progress, steps

LOG_LINES = 200
TYPES = {
    "FP": "number",
    "INT": "whole number",
    "UINT": "whole number",
    "BYTES": "text",
    "BOOL": "true or false",
    "DATETIME": "date",
}
RUNNING_POLL, QUIET_POLL = "every 1s", "every 5s"


class ReplicaShown(Struct, frozen=True):
    """Running replica. vital: its resource usage; None if unknown. circuit: the state of its circuit breaker."""

    replica: Replica
    vital: ReplicaUsage | None
    circuit: str
    uptime_seconds: float


class ModelView(Struct, frozen=True):
    """Contents of a model's page. poll: how often the page refreshes. log: the build's last lines, while or if it
    fails.

    replica_noun: what a replica of it is, such as "container". replicas: the running replicas.
    """

    model: ModelVersion
    deployment: Deployment
    steps: Sequence[StepShown]
    step: str
    in_progress: bool
    failed: bool
    serves: bool
    poll: str
    exact_endpoint: str
    charts: Sequence[Chart]
    replica_noun: str
    replicas: Sequence[ReplicaShown]
    most_replicas: int
    limits: Limits
    acceleration: str
    sandbox: Sequence[str]
    log: Sequence[str]


async def model_view(
    model: ModelVersion,
    deployments: Deployments,
    history: History,
    vitals: UsageSampler,
    circuits: Mapping[str, str],
    base_url: str,
) -> ModelView:
    """Gather the contents of a model's page.

    circuits: breaker states of the model's replicas, by replica id. base_url: this server's URL as the browser sees it,
    without a trailing slash.
    """
    deployment = deployments.state.deployment(model.model_id)
    shown = steps(deployment)
    busy, failed = in_progress(deployment), any(step.state == "failed" for step in shown)
    uses = await vitals.of([deployment])
    quiet = f"No request in the last {history.kept_seconds / 60:.0f} minutes."
    empty = (
        f"{quiet} Try it, or send a request to its endpoint."
        if is_serving(deployment)
        else f"{quiet} The model is not running."
    )
    target = deployments.pipeline.targets.known.get(deployment.target or "")
    return ModelView(
        model=model,
        deployment=deployment,
        steps=shown,
        step=next((step.name for step in shown if step.state in ("now", "failed")), "Live"),
        in_progress=busy,
        failed=failed,
        serves=is_serving(deployment),
        poll=RUNNING_POLL if busy else QUIET_POLL,
        exact_endpoint=f"{base_url}/models/{model.model_id}/predict",
        charts=charts(history.moments(model.model_id), history.kept_seconds, empty),
        replica_noun=target.replica_noun if target else deployment.target or "",
        replicas=[
            ReplicaShown(replica, uses.get(replica.id), circuits.get(replica.id, ""), seconds_since(replica.started_at))
            for replica in deployment.replicas
        ],
        most_replicas=REPLICAS_MAX,
        limits=deployments.pipeline.settings.limits,
        acceleration=acceleration_text(model),
        sandbox=sandbox_text(model.findings.runtime.get("confinement") or {}),
        log=await last_lines(deployments, model) if busy or failed else (),
    )


async def last_lines(deployments: Deployments, model: ModelVersion) -> list[str]:
    """Return the last lines of the build's log."""
    return [line.text async for line in model_log(deployments, model, "build", LOG_LINES, False)]


def acceleration_text(model: ModelVersion) -> str:
    """Describe the state of the model's acceleration in one sentence."""
    acceleration = model.findings.acceleration
    if acceleration.status is AccelerationStatus.ACCELERATED and acceleration.report is not None:
        faster = [
            f"{significant(times)} times as fast with {rows_text(rows)}"
            for rows, times in acceleration.report.speedup.items()
        ]
        return f"Served as ONNX: {', '.join(faster)}." if faster else "Served as ONNX."
    return {
        AccelerationStatus.PENDING: "Not tried yet; starts once the model is live.",
        AccelerationStatus.CONVERTING: "A faster variant is being converted and compared in the background.",
        AccelerationStatus.KEPT: f"The original variant is served: {acceleration.reason or 'no faster one was found'}.",
        AccelerationStatus.OFF: "Off: the original variant is served.",
    }.get(acceleration.status, "")


def rows_text(rows: str) -> str:
    return "1 row" if rows == "1" else f"{rows} rows"


def sandbox_text(confinement: dict[str, Any]) -> list[str]:
    """List what isolates the replica from the machine, as the runtime itself reports it."""
    layers = []
    if confinement.get("namespaces"):
        layers.append(f"own namespaces: {', '.join(confinement['namespaces'])}")
    if confinement.get("landlock_abi"):
        layers.append("only its own files (Landlock)")
    if confinement.get("seccomp"):
        layers.append("system calls filtered (seccomp)")
    if confinement.get("capabilities") == "none":
        layers.append("no capabilities")
    layers += [f"{what} held by {holder}" for what, holder in confinement.get("bounds", {}).items()]
    return layers


def type_text(tensor: Tensor) -> str:
    """Return a datatype in plain words: FP64 → number."""
    return TYPES.get(tensor.datatype.rstrip("0123456789"), tensor.datatype.lower())


def shape_text(tensor: Tensor) -> str:
    """Format a shape, with `n` for −1, the number of rows."""
    return " × ".join("n" if size < 0 else str(size) for size in tensor.shape)
