"""The record by which the catalog knows a version."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from app.core.model import ModelVersion


class VersionRecord(Struct, frozen=True):
    """A version as the catalog keeps it: what `model.json` says of it.

    framework: the format of the artifact. It, signature and environment_hash are None until they are found out; each is
    recorded once and never changes. parent: number of the version that it was made from, "" for none. metadata: what its
    owner says of it: metrics, what it was trained on, its commit.
    """

    model_id: str
    name: str
    version: str
    created_at: str
    created_by: str
    parent: str
    artifact_sha256: str
    artifact_size_bytes: int
    metadata: dict[str, Any]
    framework: str | None = None
    signature: dict[str, Any] | None = None
    environment_hash: str | None = None


def version_record(model: ModelVersion) -> VersionRecord:
    """Return the record of a version."""
    identity, findings, artifact = model.identity, model.findings, model.spec.artifact
    return VersionRecord(
        model_id=identity.model_id,
        name=identity.name,
        version=identity.version,
        created_at=identity.created_at,
        created_by=identity.created_by,
        parent=identity.parent,
        artifact_sha256=artifact.sha256,
        artifact_size_bytes=artifact.size_bytes,
        metadata=model.spec.metadata,
        framework=findings.inspection.format.value if findings.inspection else None,
        signature=msgspec.to_builtins(findings.signature) if findings.signature else None,
        environment_hash=findings.lock.hash if findings.lock else None,
    )
