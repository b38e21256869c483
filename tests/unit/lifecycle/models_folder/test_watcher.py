"""The models folder with clocks of our own: when an entry is taken, when it is left alone, and when it is gone."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from app.core.model import Status
from app.errors import BadInput, TooLarge
from app.lifecycle.models_folder import watcher as module
from app.lifecycle.models_folder.snapshot import copy_entry, take_snapshot
from app.lifecycle.models_folder.versions import EARLIER_KEPT
from app.lifecycle.models_folder.watcher import SETTLE_SECONDS, ModelsFolder
from tests.faults import failing
from tests.unit.core.rollout.canary_lab import pending
from tests.unit.lifecycle.house_lab import House, house


def source(value: object) -> str:
    return f"class Model:\n    def predict(self, rows): return {value!r}\n"


class Watched:
    """A house whose models folder is looked at when the test says so. now: of both clocks, from the real time on."""

    def __init__(self, home: House, root: Path) -> None:
        self.home = home
        self.root = root
        self.now = time.time()
        self.folder = ModelsFolder(home.deployments, root, 1, lambda: self.now, lambda: self.now)

    def put(self, name: str, value: object = 1, file: str = "model.py") -> Path:
        (self.root / name).mkdir(exist_ok=True)
        path = self.root / name / file
        path.write_text(source(value))
        self.now = max(self.now, time.time())  # the file is not of a time that is yet to come
        return path

    async def look(self, after_seconds: float = 0.0) -> None:
        self.now += after_seconds
        await self.folder.cycle()

    async def settle(self) -> None:
        """Long enough for everything there to be taken, and to be live."""
        for _ in range(4):
            await self.look(2 * SETTLE_SECONDS)
            for model in self.home.state.models():
                await self.home.deployments.settled(model.model_id)

    def entry(self, name: str) -> dict[str, Any]:
        return next(one for one in self.folder.document()["entries"] if one["name"] == name)

    def refs(self) -> list[str]:
        return [model.ref for model in self.home.state.models()]


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    (folder / "models").mkdir()
    async with house(folder) as home:
        yield Watched(home, folder / "models")


async def test_an_entry_is_deployed_once_its_files_stop_changing(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        path = here.put("m")
        here.now = time.time() - 1000  # a file server's clock that is ahead: the times of files tell nothing
        await here.look()
        for size in range(5):
            path.write_text(source("x" * size))
            await here.look(SETTLE_SECONDS * 0.9)
            assert here.refs() == []
            assert here.entry("m")["state"] == "waiting"
        await here.look(SETTLE_SECONDS)
        assert here.refs() == ["m@1.0.0"]


async def test_unchanged_files_are_deployed_at_the_first_scan(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("m")
        await here.look(SETTLE_SECONDS * 2)
        assert here.refs() == ["m@1.0.0"]


async def test_an_entry_that_changes_while_it_is_copied_is_not_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as here:
        path = here.put("m")

        def copy_slowly(*arguments: Any) -> Any:
            copied = copy_entry(*arguments)
            path.write_text(source("changed meanwhile"))
            return copied

        monkeypatch.setattr(module, "copy_entry", copy_slowly)
        await here.look(SETTLE_SECONDS * 2)
        assert here.refs() == []
        assert not [one for one in here.home.settings.upload_root.iterdir() if one.is_dir()]
        monkeypatch.undo()
        await here.settle()
        assert here.refs() == ["m@1.0.0"]
        stored = here.home.state.folder(here.home.state.models()[0].model_id)
        assert "changed meanwhile" in (stored / "artifact" / "model" / "model.py").read_text()


async def test_a_touched_file_with_the_same_content_is_not_a_new_version(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        path = here.put("m")
        await here.settle()
        os.utime(path, (1, 1))
        await here.settle()
        assert here.refs() == ["m@1.0.0"]
        assert here.entry("m")["state"] == "live"


async def test_each_change_is_a_version_and_few_earlier_ones_are_kept(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        for value in range(5):
            here.put("m", value)
            await here.settle()
        assert here.refs() == ["m@1.3.0", "m@1.4.0"]
        assert len(here.refs()) == 1 + EARLIER_KEPT
        assert here.entry("m")["serving"] == "m@1.4.0"


async def test_an_entry_that_is_briefly_missing_is_not_removed(tmp_path: Path) -> None:
    """Two renames that put another folder in its place, looked at between them."""
    async with watched(tmp_path) as here:
        here.put("m")
        await here.settle()
        (here.root / "m").rename(tmp_path / "away")
        await here.look(SETTLE_SECONDS * 0.5)
        await here.look(SETTLE_SECONDS * 0.4)
        (tmp_path / "away").rename(here.root / "m")
        await here.settle()
        assert here.refs() == ["m@1.0.0"]
        assert here.entry("m")["state"] == "live"


async def test_removing_an_entry_deletes_its_versions_but_no_upload(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("m", 1)
        here.put("other")
        await here.settle()
        here.put("m", 2)
        await here.settle()
        await here.home.add("f" * 12, "m")
        (here.root / "m" / "model.py").unlink()
        (here.root / "m").rmdir()
        await here.settle()
        assert here.refs() == ["other@1.0.0", "m@1.2.0"]
        assert [one["name"] for one in here.folder.document()["entries"]] == ["other"]


async def test_an_entry_in_a_rollout_is_deleted_once_that_is_over(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("m")
        await here.settle()
        model_id = here.home.state.find("m").model_id
        rollout = structs.replace(pending(), name="m", candidate_id=model_id)
        here.home.state.hold(rollout)
        (here.root / "m" / "model.py").unlink()
        (here.root / "m").rmdir()
        await here.settle()
        assert here.refs() == ["m@1.0.0"]
        assert here.entry("m")["error"]["rollout"] == rollout.id
        here.home.state.release(rollout)
        await here.settle()
        assert here.refs() == []


async def test_a_root_that_cannot_be_read_removes_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("m")
        await here.settle()
        here.root.rename(tmp_path / "unmounted")
        await here.settle()
        assert here.refs() == ["m@1.0.0"]
        assert "cannot be read" in here.folder.document()["problem"]


async def test_a_deployment_in_progress_is_cancelled_for_a_newer_version(tmp_path: Path) -> None:
    building = asyncio.Event()
    async with watched(tmp_path) as here:
        build = here.home.target.build_environment

        async def held(*arguments: Any) -> None:
            await building.wait()
            await build(*arguments)

        here.home.target.build_environment = held  # type: ignore[method-assign, assignment]
        here.put("m", 1)
        here.now += SETTLE_SECONDS * 2
        await here.folder.cycle()
        assert here.home.deployments.busy(here.home.state.models()[0].model_id)
        here.put("m", 2)
        here.now += SETTLE_SECONDS * 2
        await here.folder.cycle()
        building.set()
        await here.settle()
        (model,) = here.home.state.models()
        assert here.home.status(model.model_id) is Status.LIVE
        assert "return 2" in (here.home.state.folder(model.model_id) / "artifact/model/model.py").read_text()


async def test_an_entry_that_was_stopped_manually_stays_stopped(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("m")
        await here.settle()
        (model,) = here.home.state.models()
        await here.home.deployments.stop(model)
        again = ModelsFolder(here.home.deployments, here.root, 1, lambda: here.now, lambda: here.now)
        here.folder = again  # as after a restart
        await here.settle()
        assert here.home.status(model.model_id) is Status.STOPPED
        assert here.entry("m")["state"] == "stopped"


async def test_models_of_the_folder_are_live_beside_the_active_upload(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("one")
        here.put("two")
        await here.settle()
        await here.home.live("a" * 12, "uploaded")
        await here.home.live("b" * 12, "second")
        states = {model.name: here.home.status(model.model_id) for model in here.home.state.models()}
        assert states == {"one": "live", "two": "live", "uploaded": "stopped", "second": "live"}
        here.put("three")
        await here.settle()
        assert here.home.status("b" * 12) is Status.LIVE


async def test_a_broken_entry_is_reported_and_fixed_by_its_next_change(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("good")
        path = here.put("bad", file="model_config.yaml")
        path.write_text("batch_size: 3")
        await here.settle()
        assert here.entry("bad")["state"] == "broken"
        assert [name for name, _ in here.folder.broken] == ["bad"]
        assert here.entry("good")["state"] == "live"
        path.write_text("max_batch_size: 3")
        here.put("bad")
        await here.settle()
        assert here.entry("bad")["state"] == "live"
        assert here.home.state.find("bad").spec.bounds.max_batch_size == 3
        table = here.home.state.route_table()
        assert table.live["bad"].bounds.max_batch_size == 3
        assert not here.folder.broken


def test_links_may_lead_anywhere_within_the_models_folder_only(tmp_path: Path) -> None:
    root = tmp_path / "models"
    (root / "m").mkdir(parents=True)
    (root / "shared").mkdir()
    (root / "shared" / "big.bin").write_bytes(b"weights")
    (root / "m" / "model.bin").symlink_to(root / "shared" / "big.bin")
    (root / "m" / "data").symlink_to(root / "shared", target_is_directory=True)
    assert [name for name, _, _ in take_snapshot(root)["m"].files] == ["data/big.bin", "model.bin"]
    copy_entry(root, "m", tmp_path / "copy", 1 << 20)
    assert (tmp_path / "copy" / "model.bin").read_bytes() == b"weights"
    assert not (tmp_path / "copy" / "model.bin").is_symlink()
    for target, words in (
        (tmp_path / "secret", "leads out of the models folder"),
        (Path("/etc"), "leads out of the models folder"),
        (root / "gone", "does not exist"),
        (root / "m", "leads to one of its parent folders"),
    ):
        (tmp_path / "secret").write_text("key")
        link = root / "m" / "link"
        link.symlink_to(target)
        assert words in take_snapshot(root)["m"].problem, target
        with pytest.raises(BadInput):
            copy_entry(root, "m", tmp_path / f"copy {target.name}", 1 << 20)
        link.unlink()


def test_caches_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    root = tmp_path / "models"
    (root / "m" / "__pycache__").mkdir(parents=True)
    (root / "m" / "__pycache__" / "model.pyc").write_bytes(b"x")
    (root / "m" / ".git").mkdir()
    (root / "m" / ".git" / "config").write_text("x")
    (root / "m" / ".python-version").write_text("3.11")
    (root / "m" / "model.py").write_text(source(1))
    (root / ".hidden").mkdir()
    assert [name for name, _, _ in take_snapshot(root)["m"].files] == [".python-version", "model.py"]
    assert list(take_snapshot(root)) == ["m"]


def test_more_than_the_limit_is_not_copied(tmp_path: Path) -> None:
    root = tmp_path / "models"
    (root / "m").mkdir(parents=True)
    (root / "m" / "model.bin").write_bytes(bytes(5000))
    with pytest.raises(TooLarge):
        copy_entry(root, "m", tmp_path / "copy", 1000)


async def test_an_entry_that_does_not_fit_on_disk_is_reported_and_deployed_once_there_is_room(tmp_path: Path) -> None:
    async with watched(tmp_path) as here:
        here.put("m")
        uploads = here.home.state.folder("")
        with failing(errno.ENOSPC, uploads, 1):
            await here.settle()
        assert (here.entry("m")["state"], here.entry("m")["error"]["code"]) == ("broken", "disk_full")
        assert here.refs() == []
        await here.settle()
        assert (here.entry("m")["state"], here.entry("m")["error"]) == ("live", None)
