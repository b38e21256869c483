"""What each page of a model hands its header."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from app.core.model import ModelVersion
from app.lifecycle.state import DeploymentState
from app.ui.model_head import model_head
from app.ui.routes.share import share_context


def head_context(request: Request, model: ModelVersion, state: DeploymentState) -> dict[str, Any]:
    """Return `head` and `share` for partials/model_head.html."""
    return {"head": model_head(model, state, str(request.base_url).rstrip("/")), **share_context(request, model)}
