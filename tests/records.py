"""Records of models for tests, made of facts by name, wherever in the record they belong."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from app.core.model import Artifact, Identity, ModelVersion, Spec


def model_version(
    model_id: str, name: str, version: str, artifact: Artifact, created_at: str, **facts: Any
) -> ModelVersion:
    return with_facts(ModelVersion(Identity(model_id, name, version, created_at), Spec(artifact)), **facts)


def with_facts(model: ModelVersion, **facts: Any) -> ModelVersion:
    """Return the model with other facts, each in its part of the record; `target` is the one that its owner asked for."""
    parts = {
        part: structs.replace(before, **{name: facts.pop(name) for name in before.__struct_fields__ if name in facts})
        for part, before in structs.asdict(model).items()
    }
    assert not facts
    return ModelVersion(**parts)
