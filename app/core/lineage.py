"""The records by which the catalog knows versions, and where each version came from."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from app.core.model import ModelVersion


class Lineage(Struct, frozen=True):
    """Where a version came from, as its owner says. parent_id: model_id of the version that it was made from.

    trained_on: the data. metrics: of its training, such as {"auc": 0.91}. created_by: caller's name.
    """

    parent_id: str = ""
    git_commit: str = ""
    trained_on: str = ""
    metrics: dict[str, float] = {}
    metadata: dict[str, Any] = {}
    created_by: str = ""


class VersionRecord(Struct, frozen=True):
    """A version as the catalog keeps it: what `model.json` says of it, and its lineage.

    framework: the format of the artifact. signature, environment_hash: None until the version was inspected and locked;
    each is recorded once and never changes. metrics: None stands for NaN and infinities.
    """

    model_id: str
    name: str
    version: str
    artifact_sha256: str
    artifact_size_bytes: int
    created_at: str
    framework: str | None = None
    signature: dict[str, Any] | None = None
    environment_hash: str | None = None
    parent_id: str | None = None
    git_commit: str | None = None
    trained_on: str | None = None
    metrics: dict[str, float | None] | None = None
    metadata: dict[str, Any] | None = None
    created_by: str | None = None


def version_record(model: ModelVersion, lineage: Lineage | None = None) -> VersionRecord:
    """Return the record of a version. lineage: None where only `model.json` is known."""
    findings, artifact = model.findings, model.spec.artifact
    origin = lineage or Lineage()
    return VersionRecord(
        model_id=model.model_id,
        name=model.name,
        version=model.version,
        artifact_sha256=artifact.sha256,
        artifact_size_bytes=artifact.size_bytes,
        created_at=model.identity.created_at,
        framework=findings.inspection.format.value if findings.inspection else None,
        signature=msgspec.to_builtins(findings.signature) if findings.signature else None,
        environment_hash=findings.lock.hash if findings.lock else None,
        parent_id=origin.parent_id or None,
        git_commit=origin.git_commit or None,
        trained_on=origin.trained_on or None,
        metrics=dict(origin.metrics) or None,
        metadata=origin.metadata or None,
        created_by=origin.created_by or None,
    )
