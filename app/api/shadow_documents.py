"""The JSON documents in which the API describes shadows."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from app.core.rollout.canary import Versions
from app.core.rollout.records import Rollout
from app.lifecycle.rollouts.shadows import ShadowReport


def shadow_document(rollout: Rollout, versions: Versions) -> dict[str, Any]:
    """Return a shadow as one of the rollouts. stable: the production version; candidate: the shadow."""
    return {
        "id": rollout.id,
        "name": rollout.name,
        "kind": rollout.kind.value,
        "state": rollout.state.value,
        "reason": rollout.reason or None,
        "stable": {"model_id": rollout.stable_id, "version": versions.stable},
        "candidate": {"model_id": rollout.candidate_id, "version": versions.candidate},
        "created_at": rollout.created_at,
        "updated_at": rollout.updated_at,
        "created_by": rollout.created_by or None,
        "generation": rollout.generation,
    }


def report_document(rollout: Rollout, versions: Versions, report: ShadowReport) -> dict[str, Any]:
    """Return what a shadow answered. agreement: null before the first comparison. lost: null while it may answer."""
    agreement = dict(to_builtins(report.agreement))
    return {
        "name": rollout.name,
        "id": rollout.id,
        "state": rollout.state.value,
        "reason": rollout.reason or None,
        "production_version": versions.stable,
        "shadow_version": versions.candidate,
        "since": report.since,
        "agreement": agreement.pop("agreement"),
        "copies": to_builtins(report.copies),
        "waiting": report.waiting,
        "lost": report.lost or None,
        "latency": {"production": agreement.pop("production_latency"), "shadow": agreement.pop("shadow_latency")},
        **agreement,
    }
