"""The settings that the deployment of a model depends on, as the gateway's wiring passes them in."""

from __future__ import annotations

from typing import Protocol

from app.core.model import Limits


class DeploymentSettings(Protocol):
    """The part of `app.settings.Settings` that deployments use; see there for each setting. Times are in seconds."""

    @property
    def accelerate(self) -> str:
        """Return "auto" or "off"."""
        ...

    @property
    def single_active_model(self) -> bool: ...

    @property
    def max_upload_mb(self) -> int: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def build_timeout_seconds(self) -> float: ...

    @property
    def start_timeout_seconds(self) -> float: ...

    @property
    def predict_timeout_seconds(self) -> float: ...

    @property
    def drain_timeout_seconds(self) -> float: ...
