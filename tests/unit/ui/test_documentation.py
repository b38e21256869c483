"""The documentation is open to all, and names the models to those alone who may see them."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from app.ui.pages import Pages
from app.ui.routes import documentation
from tests.unit.lifecycle.house_lab import House, house

TEMPLATES = Path(documentation.__file__).parents[1] / "templates"


async def documented(home: House, sees_models: bool) -> str:
    app = FastAPI(docs_url=None, openapi_url=None)
    app.include_router(documentation.router(Pages(TEMPLATES), home.state, lambda _: sees_models, lambda: False))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.get("/docs")
    assert answer.status_code == 200
    return answer.text


@pytest.mark.parametrize("sees_models", [True, False])
async def test_live_models_are_examples_for_those_who_may_see_them(tmp_path: Path, sees_models: bool) -> None:
    async with house(tmp_path, single_active_model=False) as home:
        await home.live("a" * 12, "secret-plans")
        await home.add("b" * 12, "at-rest")
        shown = await documented(home, sees_models)
        assert ("secret-plans" in shown) is sees_models
        assert "at-rest" not in shown
