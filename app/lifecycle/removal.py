"""What is removed with a model: its files, its replicas, and what was built for it alone."""

from __future__ import annotations

import asyncio

from app.core.folders import folder_size_bytes
from app.core.model import ModelVersion, VariantName
from app.errors import TargetUnavailable
from app.lifecycle.pipeline import DeploymentPipeline
from app.lifecycle.state import DeploymentState


async def removal(model: ModelVersion, state: DeploymentState, pipeline: DeploymentPipeline) -> list[str]:
    """Return what a deletion of the model removes, for a person: a line for each thing."""
    folder = state.folder(model.model_id)
    size_kb = await asyncio.to_thread(folder_size_bytes, folder, own_only=True) / 1000
    size = f"{size_kb:.1f} kB" if size_kb < 1000 else f"{size_kb / 1000:.1f} MB"
    lines = [f"model {model.ref} ({model.model_id})", f"{folder} ({size})"]
    if model.target is not None:
        replicas = state.deployment(model.model_id).replicas
        try:
            lines += pipeline.target(model).describe_removal(model, replicas)
        except TargetUnavailable:
            lines += [f"replica {replica.id}" for replica in replicas]
    used = environments_of_others(model, state)
    unshared = dict.fromkeys(variant.lock.hash for variant in model.variants if variant.lock.hash not in used)
    return lines + [f"environment {lock_hash}" for lock_hash in unshared if model.target is not None]


async def remove_build_output(model: ModelVersion, state: DeploymentState, pipeline: DeploymentPipeline) -> None:
    """Remove what the target built for the model, in every variant. Environments that other models use stay."""
    if model.target is None:
        return
    used = environments_of_others(model, state)
    target = pipeline.target(model)
    for variant in model.variants:
        if variant.name is not VariantName.ORIGINAL:
            await target.remove_variant(model, variant, variant.lock.hash in used)
    await target.remove(model, model.findings.lock is None or model.findings.lock.hash in used)


def environments_of_others(model: ModelVersion, state: DeploymentState) -> set[str]:
    """Return the hashes of the environments that stay because another model uses them."""
    others = (other for other in state.models() if other.model_id != model.model_id)
    return {variant.lock.hash for other in others for variant in other.variants}
