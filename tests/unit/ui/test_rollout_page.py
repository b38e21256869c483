"""The tab Rollout: what it says of a canary in each state, and while the database is away."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from app.core.rollout.records import RolloutState
from app.errors import CatalogUnavailable
from app.observe.history import History
from app.ui.pages import Pages
from app.ui.routes import rollout as rollout_page
from tests.unit.lifecycle.rollouts.canaries_lab import STABLE, Lab, lab
from tests.unit.share.fakes import Sharing

TEMPLATES = Path(rollout_page.__file__).parents[1] / "templates"


async def shown(made: Lab, folder: Path) -> str:
    """Return the page as words."""
    state, history = made.home.state, History(made.home.dispatcher.tallies)
    app = FastAPI()
    app.state.share = Sharing(folder).share
    app.include_router(rollout_page.router(state, made.canaries, history, Pages(TEMPLATES)))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.get("/model-rollout", params={"model_id": STABLE})
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


def buttons(page: str) -> list[str]:
    labels = ("Promote 1.1.0", "Pause", "Resume", "Roll back to 1.0.0", "Begin a canary")
    return [label for label in labels if re.search(rf"{re.escape(label)}\b", page)]


async def test_a_canary_shows_its_numbers_and_what_can_be_done_in_each_state(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        assert buttons(await shown(made, tmp_path)) == ["Begin a canary"]
        rollout = await made.begin(steps=[25, 100])
        made.count(37, bad=1)
        made.canaries.judge()
        page = await shown(made, tmp_path)
        assert "Canary 1.1.0 at 25%" in page
        assert "Step 1 of 2, for 0.0 s of at least 30 s. Shares: 25% , 100%." in page
        assert "Answers in this step 37 – 236 or more Waiting" in page
        assert "Bad, where stable could answer 1 of 37, shown to be below 12.2% – 2% or less Waiting" in page
        assert "Not passed yet: too little evidence (37 of 236, as 1 was bad" in page
        assert buttons(page) == ["Promote 1.1.0", "Pause", "Roll back to 1.0.0"]

        await made.canaries.pause(rollout.id)
        assert buttons(await shown(made, tmp_path)) == ["Promote 1.1.0", "Resume", "Roll back to 1.0.0"]
        await made.canaries.promote(rollout.id)
        assert buttons(await shown(made, tmp_path)) == ["Roll back to 1.0.0"]
        await made.canaries.roll_back(rollout.id, "ada")
        page = await shown(made, tmp_path)
        assert "Rolled back rolled back by ada" in page
        assert buttons(page) == ["Begin a canary"]


async def test_while_the_database_is_away_an_active_canary_is_shown_without_its_past(tmp_path: Path) -> None:
    async with lab(tmp_path) as made:
        rollout = await made.begin()
        made.store.away = True
        page = await shown(made, tmp_path)
        assert "The database is away, so what happened cannot be shown." in page
        assert "Roll back to 1.0.0" in page
        made.store.away = False
        assert "The database is away" not in await shown(made, tmp_path)
        await made.canaries.roll_back(rollout.id)
        await made.reached(rollout.id, RolloutState.ROLLED_BACK)
        made.store.away = True
        with pytest.raises(CatalogUnavailable):
            await shown(made, tmp_path)
