"""What is refused of an upload that was read, in which order, and how often its environment is worked out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from app.core.environment import Requirements
from app.core.model import Status
from app.errors import PrismError
from app.lifecycle import pipeline
from app.lifecycle.intake.staging import Staging
from tests.unit.lifecycle.disk_lab import SlowDisk
from tests.unit.lifecycle.house_lab import House, house
from tests.unit.lifecycle.intake.upload_lab import HARMLESS, form

NEEDS_ALL = b"c__main__\nScaler\n0cos\nsystem\n0cstranger.models\nNet\n)R."
FIELDS = [
    # field, a value that is refused, one that is taken
    ("model_name", "a/b", "iris"),
    ("version", "v2", ""),
    ("bump", "huge", "patch"),
    ("traffic", "some", "none"),
    ("allow_unsafe", "maybe", "false"),
    ("allow_packages", "acme==1", ""),
    ("expected_input_json", "{", "{}"),
    ("requirements", "-r other.txt", ""),
    ("gpu", "many", "true"),
    ("target", "moon", "process"),
    ("gpu", "true", ""),
    ("accelerate", "fast", "off"),
    ("replicas", "0", "1"),
    ("side_effects", "few", "true"),
    ("keep", "perhaps", "true"),
    ("python_version", "two", "3.11"),
]
"""In the order in which they are refused; the target of processes refuses a GPU that is right in itself."""


async def refusals(home: House, staging: Staging, upload_id: str) -> list[PrismError]:
    """Return every refusal, as the page shows them; a deployment raises the first."""
    staged = staging.get(upload_id)
    found = await staging.refusals(staged)
    if found:
        with pytest.raises(PrismError) as caught:
            await staging.deploy_form(form(home, upload_id=upload_id), run=True)
        assert caught.value.problem() == found[0].problem()
    return found


async def test_the_first_wrong_field_is_refused_in_an_order_that_stays(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        texts = {field: wrong for field, wrong, _ in reversed(FIELDS)}
        upload_id = (await staging.add(form(home, HARMLESS, **texts))).upload_id
        for field, _, right in FIELDS:
            (refusal,) = await refusals(home, staging, upload_id)
            assert (refusal.values["field"], refusal.code) == (field, "bad_input")
            await staging.amend(upload_id, form(home, **{field: right}))
        assert await refusals(home, staging, upload_id) == []
        assert home.state.models() == ()


async def test_what_the_file_lacks_is_refused_before_what_no_environment_can_have(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        upload_id = (await staging.add(form(home, NEEDS_ALL, python_version="two"))).upload_id
        codes = [refusal.code for refusal in await refusals(home, staging, upload_id)]
        assert codes == ["missing_code", "missing_code", "unsafe_artifact", "bad_input"]


async def test_a_choice_to_keep_is_remembered_for_later_versions_of_the_name_until_it_is_taken_back(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)

        async def kept(**texts: str) -> bool:
            model = await staging.deploy_form(form(home, HARMLESS, **{"model_name": "iris", **texts}), run=False)
            await home.deployments.settled(model.model_id)
            return model.spec.keep

        assert [await kept(), await kept(keep="true"), await kept(), await kept(model_name="rose")] == [0, 1, 1, 0]
        assert [await kept(keep="false"), await kept()] == [0, 0]


async def test_uploads_of_one_name_at_the_same_time_become_different_versions(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        uploads = [staging.deploy_form(form(home, HARMLESS, model_name="iris"), run=False) for _ in range(6)]
        models = await asyncio.gather(*uploads)
        assert sorted(model.version for model in models) == [f"1.{minor}.0" for minor in range(6)]
        assert [model.version for model in home.state.models()] == [f"1.{minor}.0" for minor in range(6)]
        for model in models:
            await home.deployments.settled(model.model_id)


@pytest.mark.parametrize("staged", [False, True])
async def test_an_upload_that_is_cancelled_while_it_is_recorded_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staged: bool
) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        if staged:
            upload_id = (await staging.add(form(home, HARMLESS))).upload_id
            upload = form(home, model_name="iris", upload_id=upload_id)
        else:
            upload = form(home, HARMLESS, model_name="iris")
        with monkeypatch.context() as patch:
            disk = SlowDisk(patch, os, "fsync")
            cancelled = asyncio.create_task(staging.deploy_form(upload, run=True))
            await disk.reached()
            cancelled.cancel()
            other = asyncio.create_task(staging.deploy_form(form(home, HARMLESS, model_name="iris"), run=False))
            asyncio.get_running_loop().call_later(0.01, disk.release)
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            model = await other
        await home.deployments.settled(model.model_id)
        assert [one.model_id for one in home.state.models()] == [model.model_id]
        assert [one.model_id for one in home.state.deployments()] == [model.model_id]
        assert [path.name for path in home.state.folder("").iterdir()] == [model.model_id]


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[Requirements]:
    """The requirements of every environment that was worked out."""
    results: list[Requirements] = []
    requirements_for = pipeline.requirements_for

    def recorded(*args: Any, **options: Any) -> Requirements:
        results.append(requirements_for(*args, **options))
        return results[-1]

    monkeypatch.setattr(pipeline, "requirements_for", recorded)
    return results


async def test_requirements_are_worked_out_once_a_deployment(tmp_path: Path, worked_out: list[Requirements]) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        model = await staging.deploy_form(form(home, HARMLESS, requirements="pandas<3"), run=True)
        assert (await home.deployments.settled(model.model_id)).status is Status.LIVE
        assert [requirements.packages[0] for requirements in worked_out] == ["pandas<3"]
        assert "needs pandas<3: given by the owner" in (home.state.folder(model.model_id) / "build.log").read_text()


async def test_a_staged_upload_is_worked_out_once_more_when_it_is_deployed(
    tmp_path: Path, worked_out: list[Requirements]
) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, HARMLESS, requirements="pandas<3"))
        assert await staging.refusals(staged) == []
        worked_out.clear()
        later = form(home, upload_id=staged.upload_id, requirements="pandas<2")
        model = await staging.deploy_form(later, run=True)
        await home.deployments.settled(model.model_id)
        assert [requirements.packages[0] for requirements in worked_out] == ["pandas<2"]


async def test_a_deployment_from_a_stored_record_works_them_out_once(
    tmp_path: Path, worked_out: list[Requirements]
) -> None:
    async with house(tmp_path) as home:
        await home.live("a" * 12)
        assert len(worked_out) == 1
        await home.deployments.restart(home.state.find("iris"))
        await home.deployments.settled("a" * 12)
        assert len(worked_out) == 1  # its lock is known
