"""The stores of deployments, as adapters implement them: what was uploaded, and what runs on this host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from app.core.model import Deployment, ModelVersion

Change = Callable[[ModelVersion], ModelVersion]
"""Function that makes the new record of a model from its present one."""


class Catalog(Protocol):
    """The models: a record and a folder of files for each.

    A method that writes returns when the disk has it, and blocks the event loop no longer than a dictionary takes. The
    writes of one model happen one after another. Whoever calls such a method lets it come to its end.
    """

    def folder(self, model_id: str) -> Path: ...

    def get(self, model_id: str) -> ModelVersion | None: ...

    def all(self) -> tuple[ModelVersion, ...]:
        """Return every model, the oldest first."""
        ...

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Return the models of this name, the oldest first."""
        ...

    async def save(self, model: ModelVersion) -> None:
        """Save a whole record. Raises OSError if it cannot be written; then the record is unchanged."""
        ...

    async def change(self, model_id: str, change: Change) -> ModelVersion | None:
        """Save what `change` makes of the newest record, and return it; None if there is no such model.

        Raises OSError if it cannot be written; then the record is unchanged.
        """
        ...

    async def note(self, model_id: str, change: Change) -> ModelVersion | None:
        """Do what `change` does for a fact that holds even if the disk refuses it.

        It is then written as soon as the disk accepts it.
        """
        ...

    async def delete(self, model_id: str) -> None:
        """Forget the model and remove its files. Raises OSError if nothing can be removed; then it is as before."""
        ...

    async def take_back(self, model_id: str) -> None:
        """Forget a model whose creation failed, even if its files cannot be removed yet."""
        ...


class DeploymentRegistry(Protocol):
    """The wanted and the actual state of each model on this host. Methods raise OSError if a write fails."""

    def all(self) -> tuple[Deployment, ...]: ...

    def get(self, model_id: str) -> Deployment | None: ...

    async def add(self, deployment: Deployment) -> None: ...

    async def save(self, *deployments: Deployment) -> None:
        """Save deployments together: a gateway that is killed leaves all of them recorded, or none."""
        ...

    async def remove(self, model_id: str) -> None: ...
