"""Records of models that a server finds when it starts, as an earlier run of it left them: many, and none of them runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec

from app.core.model import Artifact, Deployment, Identity, ModelVersion, Spec, Status
from app.registry.containers import FORMAT

SUBJECTS = ("bike-demand", "churn", "credit", "customer-lifetime-value-by-region", "fraud", "house-prices", "staffing")
REGIONS = ("austria", "belgium", "denmark", "finland", "germany", "iceland", "norway", "sweden")
ERROR = {
    "detail": "The sample was refused: `X has 3 features, but LinearRegression is expecting 2 features as input.`",
    "hint": "Give a sample that the model accepts.",
}


def names(count: int) -> list[str]:
    """Return the names of that many models, at most 56."""
    return [f"{subject}-{region}" for subject in SUBJECTS for region in REGIONS][:count]


def version(name: str, number: int, status: Status, age: timedelta) -> tuple[ModelVersion, Deployment]:
    """Return the record and the deployment of version 1.`number`.0 of a model. A failed one is still wanted."""
    id, at = sha256(f"{name}@{number}".encode()).hexdigest()[:12], (datetime.now(UTC) - age).isoformat()
    model = ModelVersion(
        Identity(id, name, f"1.{number}.0", at),
        Spec(Artifact("model.joblib", sha256(id.encode()).hexdigest(), 4711), description=f"Answers for {name}."),
    )
    failed = status is Status.FAILED
    deployment = Deployment(
        id,
        name,
        model.version,
        status,
        wanted=failed,
        created_at=at,
        updated_at=at,
        live_at="" if failed else at,
        error=ERROR if failed else None,
    )
    return model, deployment


def write(home: Path, versions: list[tuple[ModelVersion, Deployment]]) -> None:
    """Write the records into the home folder of a server that does not run and has no other models."""
    for model, _ in versions:
        folder = home / "model_store" / "uploads" / model.model_id
        (folder / "artifact").mkdir(parents=True)
        (folder / "artifact" / model.spec.artifact.filename).write_bytes(b"\0" * 4711)
        (folder / "model.json").write_bytes(msgspec.json.encode(model))
    registry = home / "app" / "registry" / "containers.json"
    registry.parent.mkdir(parents=True, exist_ok=True)
    deployments = {deployment.model_id: deployment for _, deployment in versions}
    registry.write_bytes(msgspec.json.encode({"format": FORMAT, "deployments": deployments}))
