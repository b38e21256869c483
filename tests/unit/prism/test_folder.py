"""A folder as the one file that is sent of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from prism import requests
from prism.errors import InvalidRequest
from prism.folder import zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "fraud"
    for name in ("model.pkl", "pkg/steps.py", "__pycache__/x.pyc", ".git/config", ".python-version", ".env"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "linked.pkl").symlink_to(place / "model.pkl")
    return place


def test_it_holds_the_files_and_no_caches_or_hidden_ones(folder: Path) -> None:
    with zipped(folder) as file, zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    assert content == {
        ".python-version": ".python-version",
        "linked.pkl": "model.pkl",
        "model.pkl": "model.pkl",
        "pkg/steps.py": "pkg/steps.py",
    }


def test_the_same_files_are_the_same_archive(folder: Path) -> None:
    with zipped(folder) as file:
        first = file.read()
    (folder / "model.pkl").touch()
    with zipped(folder) as file:
        assert file.read() == first


def test_a_link_that_leads_out_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (folder / "secret").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidRequest, match="leads out"), zipped(folder):
        pass


def test_a_folder_is_sent_under_its_name_and_told_as_it_goes(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    call = requests.deploy(folder, on_bytes=lambda sent, total: told.append((sent, total)))
    assert call.form is not None
    with call.form.opened() as arguments:
        field, (name, content, _) = arguments["files"][0]
        size = len(content.read())
    assert (field, name) == ("file", "fraud.zip")
    assert told[-1] == (size, size)
