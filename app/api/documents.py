"""The JSON documents in which the API describes models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec

from app.core.acceleration import AccelerationStatus, Report
from app.core.environment import Lock
from app.core.model import Deployment, ModelVersion, Replica
from app.core.version_difference import framework_of
from app.errors import PrismError
from app.lifecycle.health.usage import ReplicaUsage, usage_of
from app.lifecycle.intake.staging import Staged
from app.share.tunnel import NewKey, Status


def model_document(
    model: ModelVersion,
    deployment: Deployment,
    base_url: str,
    public_url: str | None = None,
    circuits: Mapping[str, str] = MappingProxyType({}),
    vitals: Mapping[str, ReplicaUsage] | None = None,
) -> dict[str, Any]:
    """Return everything known about one version.

    base_url: how the caller reaches this server, without a trailing slash. public_url: where others send predictions,
    while the model is shared.
    circuits: the state of its replicas' circuit breakers, by replica id. vitals: what its replicas use, by replica id;
    None where that was not requested.
    """
    document: dict[str, Any] = {
        "model_id": model.model_id,
        "name": model.name,
        "version": model.version,
        "ref": model.ref,
        "status": deployment.status,
        "wanted": deployment.wanted,
        "traffic": deployment.traffic,
        "description": model.spec.description,
        "target": deployment.target or model.target,
        "gpu": model.spec.execution.gpus.shown,
        "endpoint": f"{base_url}/models/{quote(deployment.callable_ref, safe='@')}/predict",
        "public_url": public_url,
        "created_at": model.identity.created_at,
        "created_by": model.identity.created_by or None,
        "parent": model.identity.parent or None,
        "metadata": model.spec.metadata,
        "framework": framework_of(model.findings.inspection),
        "live_at": deployment.live_at or None,
        "artifact": model.spec.artifact,
        "signature": model.findings.signature,
        "sample": model.findings.sample,
        "environment": environment_document(model.findings.lock),
        "acceleration": acceleration_document(model),
        "inspection": model.findings.inspection,
        "code_files": model.spec.code_files,
        "unsafe_consent": model.spec.unsafe_consent or None,
        "allow_packages": model.spec.allow_packages,
        "packages_consent": model.spec.packages_consent or None,
        "runtime": model.findings.runtime,
        "replica": next(map(replica_document, deployment.replicas), None),
        "replicas": [
            {**replica_document(replica), "circuit": circuits.get(replica.id), **use_document(replica, vitals)}
            for replica in deployment.replicas
        ],
        "replicas_wanted": model.spec.replicas,
        "keep": model.spec.keep,
        "side_effects": model.spec.side_effects,
        **({} if vitals is None else {"use": usage_of(deployment, vitals)}),
        "restarts": deployment.restarts,
        "error": deployment.error,
        "timings_ms": deployment.metadata.get("timings_ms", {}),
    }
    return dict(msgspec.to_builtins(document))


def version_document(model: ModelVersion, deployment: Deployment, share: float) -> dict[str, Any]:
    """Return a version as a list of versions shows it. share: of the requests for its name, from 0 to 1."""
    return {
        "model_id": model.model_id,
        "version": model.version,
        "ref": model.ref,
        "status": deployment.status.value,
        "traffic": deployment.traffic.value,
        "share": share,
        "parent": model.identity.parent or None,
        "created_at": model.identity.created_at,
        "created_by": model.identity.created_by or None,
        "live_at": deployment.live_at or None,
        "description": model.spec.description,
        "metadata": model.spec.metadata,
        "framework": framework_of(model.findings.inspection),
        "sha256": model.spec.artifact.sha256,
        "size_bytes": model.spec.artifact.size_bytes,
    }


def staged_document(staged: Staged, refusals: Iterable[PrismError]) -> dict[str, Any]:
    """Return what was read from a staged upload, and why it could not be deployed as it is."""
    document: dict[str, Any] = {
        "upload_id": staged.upload_id,
        "expires_at": staged.expires_at,
        "filename": staged.upload.artifact.filename,
        "artifact": staged.upload.artifact,
        "code_files": staged.inspected.code_files,
        "inspection": staged.inspected.with_code,
        "refusals": [refusal.problem() for refusal in refusals],
    }
    return dict(msgspec.to_builtins(document))


def acceleration_document(model: ModelVersion) -> dict[str, Any]:
    """Return whether the model is served in a faster variant, and what was measured. environment: of the faster variant."""
    acceleration = model.findings.acceleration
    accelerated = acceleration.status is AccelerationStatus.ACCELERATED
    measured = msgspec.to_builtins(acceleration.report or Report())
    return {
        **measured,
        "status": acceleration.status,
        "reason": acceleration.reason or None,
        "environment": environment_document(acceleration.lock if accelerated else None),
    }


def environment_document(lock: Lock | None) -> dict[str, Any] | None:
    if lock is None:
        return None
    return {
        "hash": lock.hash,
        "python": lock.python,
        "python_evidence": lock.python_evidence,
        "pins": lock.pins,
        "packages": lock.packages,
    }


def replica_document(replica: Replica) -> dict[str, Any]:
    """Return a replica without its token. socket, port: those of its address."""
    shown: dict[str, Any] = msgspec.to_builtins(replica)
    del shown["token"], shown["address"]
    return {**shown, "socket": replica.address.socket, "port": replica.address.port}


def use_document(replica: Replica, vitals: Mapping[str, ReplicaUsage] | None) -> dict[str, Any]:
    """Return what a replica uses now. A value is null where it cannot be seen; `cores` also at the first sample."""
    if vitals is None:
        return {}
    vital = vitals.get(replica.id)
    return {
        "memory_bytes": vital.state.rss_bytes or None if vital is not None else None,
        "cores": vital.cores if vital is not None else None,
    }


def deployment_document(deployment: Deployment, public_url: str | None = None) -> dict[str, Any]:
    """Return the registry's entry, as GET /registry shows it."""
    document: dict[str, Any] = msgspec.to_builtins(deployment)
    document["replica"] = next(map(replica_document, deployment.replicas), None)
    document["replicas"] = [replica_document(replica) for replica in deployment.replicas]
    document["public_url"] = public_url
    return document


def share_document(status: Status, key: NewKey | None = None) -> dict[str, Any]:
    """Return what is shared and where. key: one that was just made; it is shown only this once."""
    document: dict[str, Any] = {
        "state": status.state,
        "kind": status.kind,
        "url": status.url if status.is_on else None,
        "models": [{"name": name, "public_url": status.public_url(name)} for name in status.models],
        "open": status.open_to_all,
        "since": status.since or None,
        "warning": status.warning or None,
        "error": status.error,
    }
    if key is not None:
        document["key"] = key
    return dict(msgspec.to_builtins(document))
