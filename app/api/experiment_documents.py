"""The JSON documents in which the API describes A/B experiments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.core.rollout.experiment import Conclusion
from app.core.rollout.records import Rollout
from app.lifecycle.rollouts.ab import MetricResult, Results

Number = Callable[[str], str]
"""Returns the version number of a model_id."""


def experiment_document(rollout: Rollout, number: Number) -> dict[str, Any]:
    """Return an experiment. candidate: the version that it was stopped for; absent before."""
    chosen = rollout.candidate_id
    return {
        "id": rollout.id,
        "name": rollout.name,
        "kind": rollout.kind.value,
        "state": rollout.state.value,
        "reason": rollout.reason or None,
        "stable": {"model_id": rollout.stable_id, "version": number(rollout.stable_id)},
        **({"candidate": {"model_id": chosen, "version": number(chosen)}} if chosen else {}),
        "variants": [
            {"model_id": arm.model_id, "version": number(arm.model_id), "percentage": round(arm.weight * 100, 6)}
            for arm in rollout.arms
        ],
        "key": rollout.key or "header",
        "created_at": rollout.created_at,
        "updated_at": rollout.updated_at,
        "created_by": rollout.created_by or None,
        "generation": rollout.generation,
    }


def results_document(results: Results, number: Number) -> dict[str, Any]:
    """Return what an experiment shows. keys: distinct callers that met each variant. The first variant is the control.

    ratio_evidence: from 1,000 the callers are not divided as the weights say, and no winner is shown.
    """
    arms = results.rollout.arms
    return {
        "id": results.rollout.id,
        "name": results.rollout.name,
        "state": results.rollout.state.value,
        "control": number(arms[0].model_id),
        "outcome": results.conclusion.outcome.value,
        "ratio_evidence": results.conclusion.ratio_evidence,
        "variants": [
            {
                "version": number(arm.model_id),
                "percentage": round(arm.weight * 100, 6),
                "keys": results.keys.get(arm.model_id, 0),
            }
            for arm in arms
        ],
        "metrics": {name: _metric(result, number) for name, result in results.metrics.items()},
    }


def _metric(result: MetricResult, number: Number) -> dict[str, Any]:
    conclusion = result.conclusion
    return {
        "outcome": conclusion.outcome.value,
        "winner": number(conclusion.winner) if conclusion.winner else None,
        "adjusted": result.adjusted,
        "variants": [
            {
                "version": number(model_id),
                "keys": arm.keys,
                "mean": arm.mean if arm.keys else None,
                "interval": _interval(conclusion, model_id),
            }
            for model_id, arm in result.arms.items()
        ],
    }


def _interval(conclusion: Conclusion, model_id: str) -> dict[str, float] | None:
    """Return where the difference to the control lies, at every look with 95 % confidence; null for the control."""
    found = conclusion.intervals.get(model_id)
    return {"difference": found.difference, "low": found.low, "high": found.high} if found is not None else None
