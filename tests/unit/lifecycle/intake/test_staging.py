"""Uploads that wait for their owner's word, before anything is built of them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from msgspec import structs

from app.core.model import Status
from app.errors import BadInput, MissingCode, NotFound, UnsafeArtifact, UnsupportedFormat
from app.lifecycle.intake.staging import Staging
from tests.fakes import eventually
from tests.unit.lifecycle.disk_lab import SlowDisk
from tests.unit.lifecycle.house_lab import House, house
from tests.unit.lifecycle.intake.upload_lab import HARMLESS, form

DANGEROUS = b"cos\nsystem\n(S'true'\ntR."
NEEDS_CODE = b"c__main__\nScaler\n)R."


def folders(home: House) -> list[str]:
    return sorted(path.name for path in home.state.folder("").iterdir())


async def test_a_staged_file_is_inspected_but_not_built(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, HARMLESS))
        assert staging.get(staged.upload_id) is staged
        assert staged.inspected.inspection.format == "pickle"
        assert await staging.refusals(staged) == []
        assert home.state.models() == ()
        assert home.target.events == []


async def test_an_unreadable_upload_leaves_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        with pytest.raises(UnsupportedFormat):
            await staging.add(form(home, b"a,b\n1,2\n", name="data.csv"))
        with pytest.raises(BadInput, match="no `file`"):
            await staging.add(form(home))
        assert folders(home) == []


async def test_a_staged_upload_becomes_the_model_of_its_id_with_its_timings(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(structs.replace(form(home, HARMLESS), received_ms=12.5))
        later = form(home, model_name="iris", upload_id=staged.upload_id)
        model = await staging.deploy_form(later, run=True)
        assert (model.model_id, model.ref) == (staged.upload_id, "iris@1.0.0")
        deployment = await home.deployments.settled(model.model_id)
        assert deployment.status is Status.LIVE
        assert deployment.metadata["timings_ms"]["receive"] == 12.5
        assert deployment.metadata["timings_ms"]["inspect"] > 0
        assert folders(home) == [model.model_id]
        with pytest.raises(NotFound, match="no longer exists"):
            staging.get(staged.upload_id)


async def test_a_second_deploy_of_an_upload_returns_the_first(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, HARMLESS))
        clicks = [form(home, model_name="iris", upload_id=staged.upload_id) for _ in range(3)]
        models = await asyncio.gather(*(staging.deploy_form(one, run=True) for one in clicks))
        assert {model.model_id for model in models} == {staged.upload_id}
        await home.deployments.settled(staged.upload_id)
        assert home.target.events.count("start") == 1
        assert folders(home) == [staged.upload_id]


async def test_a_refused_upload_stays_staged_with_its_form_values(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, DANGEROUS))
        (refusal,) = await staging.refusals(staged)
        assert isinstance(refusal, UnsafeArtifact)
        with pytest.raises(UnsafeArtifact):
            await staging.deploy_form(form(home, upload_id=staged.upload_id, model_name="risky"), run=True)
        kept = staging.get(staged.upload_id)
        assert kept.upload.texts["model_name"] == "risky"
        consent = form(home, upload_id=staged.upload_id, allow_unsafe="true")
        model = await staging.deploy_form(consent, run=False)
        assert model.name == "risky"
        assert model.spec.unsafe_consent


async def test_code_files_can_be_added_later_and_replace_earlier_ones(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, NEEDS_CODE, code={"one.py": "old = 1"}))
        assert [type(one) for one in await staging.refusals(staged)] == [MissingCode]
        code = {"two.py": "2", "one.py": "class Scaler: ..."}
        staged = await staging.amend(staged.upload_id, form(home, code=code))
        assert await staging.refusals(staged) == []
        assert staged.upload.code_files == ("one.py", "two.py")
        assert (staged.upload.folder / "code" / "one.py").read_text() == "class Scaler: ..."
        assert folders(home) == [staged.upload_id]


async def test_a_function_of_the_code_needs_no_consent_but_one_that_the_code_imports_does(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        needs_function = b"\x80\x04cfeatures\nlogs\n."
        staged = await staging.add(form(home, needs_function, code={"features.py": "def logs(x): ..."}))
        assert await staging.refusals(staged) == []
        imported = form(home, code={"features.py": "from os import system as logs"})
        staged = await staging.amend(staged.upload_id, imported)
        assert [type(one) for one in await staging.refusals(staged)] == [UnsafeArtifact]


async def test_a_code_file_that_is_not_python_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, NEEDS_CODE))
        with pytest.raises(BadInput, match=r"one\.py is not Python"):
            await staging.amend(staged.upload_id, form(home, code={"one.py": "class Scaler(:"}))
        staged = await staging.amend(staged.upload_id, form(home, code={"one.py": "class Scaler: ..."}))
        assert await staging.refusals(staged) == []
        with pytest.raises(BadInput, match=r"one\.py is not Python"):
            await staging.amend(staged.upload_id, form(home, code={"one.py": "class Scaler(:", "two.py": ""}))
        assert [path.name for path in (staged.upload.folder / "code").iterdir()] == ["one.py"]
        assert (staged.upload.folder / "code" / "one.py").read_text() == "class Scaler: ..."
        assert folders(home) == [staged.upload_id]


async def test_an_upload_that_is_amended_and_deployed_at_once_is_deployed_with_the_amendment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, HARMLESS))
        disk = SlowDisk(monkeypatch, shutil, "rmtree")
        amending = asyncio.create_task(staging.amend(staged.upload_id, form(home, code={"one.py": "1"})))
        await disk.reached()
        deploying = asyncio.create_task(staging.deploy(staged.upload_id, run=False))
        await asyncio.wait([deploying], timeout=0.2)
        disk.release()
        await amending
        model = await deploying
        await home.deployments.settled(model.model_id)
        assert model.spec.code_files == ("one.py",)
        with pytest.raises(NotFound):  # else its time would come, and the model's files would go
            staging.get(staged.upload_id)


async def test_all_reasons_against_an_upload_are_reported_together(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, NEEDS_CODE, model_name="iris"))
        assert [type(one) for one in await staging.refusals(staged)] == [MissingCode]
        staged = await staging.amend(staged.upload_id, form(home, model_name="a/b"))
        assert [one.values["field"] for one in await staging.refusals(staged)] == ["model_name"]


async def test_a_form_with_a_file_and_an_upload_id_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, HARMLESS))
        with pytest.raises(BadInput, match="both"):
            await staging.deploy_form(form(home, HARMLESS, upload_id=staged.upload_id), run=True)
        assert folders(home) == [staged.upload_id]


async def test_an_unknown_upload_id_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        with pytest.raises(NotFound, match="Upload the file again"):
            await staging.deploy_form(form(home, code={"a.py": ""}, upload_id="f" * 12), run=True)
        assert folders(home) == []


async def test_a_discarded_upload_is_removed_at_once_and_a_forgotten_one_after_its_time(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging, hasty = Staging(home.deployments), Staging(home.deployments, kept_seconds=0.1)
        unwanted, waiting = [await staging.add(form(home, HARMLESS)) for _ in range(2)]
        await staging.forget(unwanted.upload_id)
        assert folders(home) == [waiting.upload_id]
        forgotten = await hasty.add(form(home, HARMLESS))
        await eventually(lambda: folders(home) == [waiting.upload_id])
        with pytest.raises(NotFound):
            hasty.get(forgotten.upload_id)


async def test_a_deployed_model_outlives_its_staged_upload(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments, kept_seconds=0.05)
        staged = await staging.add(form(home, HARMLESS, model_name="iris"))
        model = await staging.deploy(staged.upload_id, run=True)
        other = await staging.add(form(home, HARMLESS))
        await eventually(lambda: other.upload_id not in folders(home))
        assert folders(home) == [model.model_id]
