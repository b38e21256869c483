"""Which version of a model a rollback makes live again."""

from __future__ import annotations

from collections.abc import Sequence

from prism.errors import InvalidRequest
from prism.responses import Model


def version_to_restore(ref: str, current: Model, models: Sequence[Model]) -> Model:
    """Return the version that `ref` asks for: for a model's name, the newest that was live before the current one.

    current: what `ref` leads to now; where nothing serves, the newest version, even if it failed. An unhealthy version is
    none to return to. models: all of the server. Raises InvalidRequest if none was live before.
    """
    if ref != current.name:
        return current
    older = [
        model
        for model in models
        if model.name == current.name and model.live_at and model.status != "unhealthy"
        if (model.created_at or "") < (current.created_at or "")
    ]
    if not older:
        raise InvalidRequest(
            f"`{current.name}` has no version before {current.version} that was live.",
            hint=f"`prism ls` lists its versions; `prism rollback {current.name}@VERSION` makes one of them live.",
        )
    return max(older, key=lambda model: model.created_at or "")
