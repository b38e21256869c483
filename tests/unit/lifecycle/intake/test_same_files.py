"""An artifact that a version has already is stored once, and each version keeps it for as long as it exists."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from msgspec import structs

from app.core.folders import folder_size_bytes
from app.core.model import Artifact, ModelVersion, Status
from app.lifecycle.intake.receive import Form
from app.lifecycle.intake.same_files import LINK, keep_once
from app.lifecycle.intake.staging import Staging
from app.lifecycle.removal import removal
from tests.records import model_version
from tests.unit.lifecycle.house_lab import House, house
from tests.unit.lifecycle.intake.upload_lab import HARMLESS, form


def model_with(filling: bytes) -> bytes:
    """A model whose pickle has something in it that is thrown away."""
    return b"\x80\x04B" + len(filling).to_bytes(4, "little") + filling + b"0" + HARMLESS


BIG = model_with(bytes(100_000))


def with_digest(sent: Form, content: bytes) -> Form:
    """The form, with the digest that `receive` computes."""
    assert sent.artifact is not None
    digest = hashlib.sha256(content).hexdigest()
    return structs.replace(sent, artifact=structs.replace(sent.artifact, sha256=digest))


async def push(home: House, content: bytes, name: str = "model.pkl") -> tuple[ModelVersion, Path]:
    sent = with_digest(form(home, content, name=name, model_name="iris", target="process"), content)
    model = await Staging(home.deployments).deploy_form(sent, run=True)
    assert (await home.deployments.settled(model.model_id)).status is Status.LIVE
    return model, home.state.folder(model.model_id) / model.spec.artifact.file


async def test_the_same_file_under_another_name_is_stored_once_and_outlives_either_version(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first, one = await push(home, BIG)
        second, other = await push(home, BIG, "renamed.pkl")
        assert one.stat().st_ino == other.stat().st_ino
        assert len(BIG) < folder_size_bytes(home.state.folder("")) < 2 * len(BIG), "counted once"
        told = await removal(second, home.state, home.deployments.pipeline)
        assert float(told[1].partition("(")[2].split()[0]) < len(BIG) / 1000, "its file is not freed"
        await home.deployments.delete(first)
        assert other.read_bytes() == BIG
        assert other.stat().st_nlink == 1
        assert folder_size_bytes(home.state.folder(second.model_id), own_only=True) > len(BIG)


async def test_another_file_and_one_that_was_damaged_on_the_disk_are_not_shared(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        _, one = await push(home, BIG)
        _, changed = await push(home, model_with(bytes(99_999) + b"1"))
        assert changed.stat().st_nlink == 1
        one.write_bytes(model_with(bytes(99_998) + b"11"))
        _, again = await push(home, BIG)
        assert again.read_bytes() == BIG
        assert again.stat().st_nlink == one.stat().st_nlink == 1


@pytest.mark.parametrize("fails", ["hardlink_to", "replace"])
def test_where_no_link_can_be_made_the_version_keeps_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    artifact = Artifact("m.pkl", "0" * 64, 3)
    for folder in ("a", "b"):
        (tmp_path / folder / "artifact").mkdir(parents=True)
        (tmp_path / folder / "artifact" / "m.pkl").write_bytes(b"abc")

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path if fails == "hardlink_to" else os, fails, refuse)
    others = [(model_version("a", "iris", "1.0.0", artifact, "2026"), tmp_path / "a")]
    assert keep_once(artifact, tmp_path / "b", others) == 0
    ours = tmp_path / "b" / "artifact" / "m.pkl"
    assert (ours.read_bytes(), ours.stat().st_nlink) == (b"abc", 1)
    assert not ours.with_name(f"m.pkl{LINK}").exists()


def test_the_files_of_an_equal_folder_are_shared_one_by_one_but_no_link_in_it(tmp_path: Path) -> None:
    artifact = Artifact("m.zip", "0" * 64, 3, main="folder/model.pkl")
    for folder in ("a", "b"):
        (tmp_path / folder / "artifact" / "folder" / "data").mkdir(parents=True)
        (tmp_path / folder / "artifact" / "folder" / "data" / "rows").write_bytes(b"abc")
    (tmp_path / "b" / "artifact" / "folder" / "only").write_bytes(b"abc")
    (tmp_path / "a" / "artifact" / "folder" / "only").symlink_to("data/rows")
    others = [(model_version("a", "iris", "1.0.0", artifact, "2026"), tmp_path / "a")]
    assert keep_once(artifact, tmp_path / "b", others) == 3
    below = tmp_path / "b" / "artifact" / "folder"
    assert ((below / "data" / "rows").stat().st_nlink, (below / "only").stat().st_nlink) == (2, 1)
