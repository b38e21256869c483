"""The number that an upload gets, and whether it takes traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.model import ModelVersion, Status, TrafficChoice
from app.errors import BadInput, Conflict
from app.lifecycle.intake.staging import Staging
from tests.unit.lifecycle.house_lab import House, house
from tests.unit.lifecycle.intake.upload_lab import HARMLESS, form


async def push(home: House, **texts: str) -> ModelVersion:
    model = await Staging(home.deployments).deploy_form(
        form(home, HARMLESS, model_name="iris", target="process", **texts), run=True
    )
    assert (await home.deployments.settled(model.model_id)).status is Status.LIVE
    return model


async def test_each_upload_has_the_number_that_its_form_asks_for(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        asked: list[dict[str, str]] = [{}, {}, {"bump": "patch"}, {"version": "4.0.0"}, {"bump": "major"}, {}]
        versions = [(await push(home, **texts)).version for texts in asked]
        assert versions == ["1.0.0", "1.1.0", "1.1.1", "4.0.0", "5.0.0", "5.1.0"]


async def test_a_version_that_exists_is_refused_with_the_next_free_one_and_nothing_changes(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first = await push(home, version="1.4.0")
        with pytest.raises(Conflict, match=r"`iris@1\.4\.0` exists already") as refused:
            await push(home, version="1.4.0")
        assert "2.0.0 (major), 1.5.0 (minor), 1.4.1 (patch)" in refused.value.hint
        assert refused.value.values["next_version"] == "1.5.0"
        assert home.state.models() == (home.state.find(first.model_id),)
        assert [folder.name for folder in home.state.folder("").iterdir() if folder.is_dir()] == [first.model_id]


async def test_a_number_and_a_part_to_raise_are_not_given_together(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(BadInput, match="both `version` and `bump`"):
            await push(home, version="2.0.0", bump="major")


async def test_an_upload_takes_the_traffic_that_its_form_says(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first = await push(home, traffic="auto")
        second = await push(home, traffic="auto")
        assert home.state.find("iris") == home.state.find(first.model_id), "the first has all, the second none"
        assert home.state.deployment(second.model_id).traffic is TrafficChoice.NONE
        third = await push(home)
        assert home.state.find("iris") == home.state.find(third.model_id)
        assert [home.status(each.model_id) for each in (first, second)] == [Status.STOPPED] * 2
