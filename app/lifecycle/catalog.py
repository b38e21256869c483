"""The stores of deployments, as adapters implement them: what was uploaded, and what runs on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from app.core.model import Deployment, ModelVersion


class Catalog(Protocol):
    """The models: a record and a folder of files for each."""

    def folder(self, model_id: str) -> Path: ...

    def get(self, model_id: str) -> ModelVersion | None: ...

    def all(self) -> tuple[ModelVersion, ...]:
        """Return every model, the oldest first."""
        ...

    def save(self, model: ModelVersion) -> None:
        """Save the record. Raises OSError if it cannot be written; then the record is unchanged."""
        ...

    def note(self, model: ModelVersion) -> None:
        """Save a fact that holds even if the disk refuses it; it is then written as soon as the disk accepts it."""
        ...

    def delete(self, model_id: str) -> None:
        """Forget the model and remove its files. Raises OSError if nothing can be removed; then it is as before."""
        ...

    def take_back(self, model_id: str) -> None:
        """Forget a model whose creation failed, even if its files cannot be removed yet."""
        ...


class DeploymentRegistry(Protocol):
    """The wanted and the actual state of each model on this host. Methods raise OSError if a write fails."""

    def all(self) -> tuple[Deployment, ...]: ...

    def get(self, model_id: str) -> Deployment | None: ...

    async def add(self, deployment: Deployment) -> None: ...

    async def save(self, deployment: Deployment) -> None: ...

    async def remove(self, model_id: str) -> None: ...
