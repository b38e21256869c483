"""The stores that deployments are recorded in, as adapters keep them: what was uploaded, and what runs on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from app.core.model import Deployment, Model


class Catalog(Protocol):
    """The models: a record and a folder of files for each."""

    def folder(self, model_id: str) -> Path: ...

    def get(self, model_id: str) -> Model | None: ...

    def all(self) -> tuple[Model, ...]:
        """Return every model, the oldest first."""
        ...

    def save(self, model: Model) -> None:
        """Raises OSError if it cannot be written; then the record is what it was."""
        ...

    def note(self, model: Model) -> None:
        """Save what is so whether or not the disk takes it: then it is written as soon as it does."""
        ...

    def delete(self, model_id: str) -> None:
        """Forget the model and remove its files. Raises OSError where nothing can be removed; then it is as before."""
        ...

    def take_back(self, model_id: str) -> None:
        """Forget a model that never was one, also where its files cannot be removed yet."""
        ...


class DeploymentRegistry(Protocol):
    """What is wanted of each model on this host, and what runs of it. Methods raise OSError for what was not written."""

    def all(self) -> tuple[Deployment, ...]: ...

    def get(self, model_id: str) -> Deployment | None: ...

    async def add(self, deployment: Deployment) -> None: ...

    async def save(self, deployment: Deployment) -> None: ...

    async def remove(self, model_id: str) -> None: ...
