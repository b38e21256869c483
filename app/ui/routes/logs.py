"""GET /model-logs: the live log of a model's replica or build; without JavaScript, its last lines."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.core.model import ModelVersion
from app.lifecycle.deployments import Deployments
from app.lifecycle.logs.model_log import ALL_LINES, LogKind, model_log
from app.ui.chooser import choose_model
from app.ui.log_lines import CHOICES, PATTERNS, ShownLine, shown_lines
from app.ui.pages import Pages
from app.ui.routes.head import head_context

SHOWN_LINES = 500
READ_LINES = 10_000

Text = Annotated[str, Query(max_length=1000)]
Level = Annotated[str, Query(max_length=20)]


def router(deployments: Deployments, pages: Pages) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    state = deployments.state

    async def lines_of(model: ModelVersion, kind: LogKind, tail: int, text: str, level: str) -> list[ShownLine]:
        lines = [line async for line in model_log(deployments, model, kind, tail, follow=False)]
        return await asyncio.to_thread(lambda: list(shown_lines(lines, text, level)))

    @routes.get("/model-logs")
    async def logs_page(
        request: Request,
        model_id: Annotated[str, Query()] = "",
        kind: LogKind = "runtime",
        text: Text = "",
        level: Level = "all",
    ) -> Response:
        """Show a model's log. Without a model_id: the only model's log, or a list of models to choose from."""
        if not model_id:
            return choose_model(request, state, pages, "Logs")
        model = state.find(model_id)
        deployment = state.deployment(model.model_id)
        asked = {"model_id": model.model_id, "kind": kind, "text": text, "level": level}
        context = {
            "model": model,
            "deployment": deployment,
            "tab": "logs",
            **head_context(request, model, state),
            **asked,
            "query": urlencode(asked),
            "levels": CHOICES,
            "patterns": PATTERNS,
            "lines": (await lines_of(model, kind, READ_LINES, text, level))[-SHOWN_LINES:],
        }
        return pages.render(request, "logs.html", context)

    @routes.get("/model-logs/download")
    async def download(
        model_id: Annotated[str, Query()], kind: LogKind = "runtime", text: Text = "", level: Level = "all"
    ) -> Response:
        """Return the lines that match the filter as a file."""
        model = state.find(model_id)
        lines = await lines_of(model, kind, ALL_LINES, text, level)
        name = quote(f"{model.name}-{model.version}-{kind}.log")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "X-Content-Type-Options": "nosniff"}
        return Response("".join(f"{line.timestamped}\n" for line in lines), media_type="text/plain", headers=headers)

    return routes
